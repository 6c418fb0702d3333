"""The bundled functions, by name. Each takes and returns bytes, and knows nothing of Gearman."""

from collections.abc import Callable
from importlib import import_module

# As module:function, imported only when used: resize needs an image library.
BUNDLED = {
    "resize": "gearman_py.functions.resize:resize",
    "reverse": "gearman_py.functions.reverse:reverse",
    "wc": "gearman_py.functions.wc:wc",
}
NEED_EXTRAS = frozenset({"resize"})  # of the same names: pip install 'gearman_py[resize]'


def load_function(name: str) -> Callable[[bytes], bytes]:
    """The bundled function ``name``. Raises KeyError, or ImportError for a missing library."""
    module, _, attribute = BUNDLED[name].partition(":")
    function: Callable[[bytes], bytes] = getattr(import_module(module), attribute)
    return function
