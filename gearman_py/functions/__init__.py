"""The bundled functions, by name. Each is plain: bytes in, bytes out, nothing of Gearman in it."""

from collections.abc import Callable
from importlib import import_module

# As module:function, and imported only when asked for: resize needs an image library.
BUNDLED = {
    "resize": "gearman_py.functions.resize:resize",
    "reverse": "gearman_py.functions.reverse:reverse",
    "wc": "gearman_py.functions.wc:wc",
}


def load(name: str) -> Callable[[bytes], bytes]:
    """The bundled function called ``name``. Raises KeyError, or ImportError for what it needs."""
    module, _, attribute = BUNDLED[name].partition(":")
    function: Callable[[bytes], bytes] = getattr(import_module(module), attribute)
    return function
