"""The bundled functions, by name. Each is plain: bytes in, bytes out, without any Gearman."""

from collections.abc import Callable
from importlib import import_module

# As module:function, imported only when used: resize needs an image library.
BUNDLED = {
    "resize": "gearman_py.functions.resize:resize",
    "reverse": "gearman_py.functions.reverse:reverse",
    "wc": "gearman_py.functions.wc:wc",
}


def load_function(name: str) -> Callable[[bytes], bytes]:
    """The bundled function ``name``. Raises KeyError, or ImportError for a missing library."""
    module, _, attribute = BUNDLED[name].partition(":")
    function: Callable[[bytes], bytes] = getattr(import_module(module), attribute)
    return function
