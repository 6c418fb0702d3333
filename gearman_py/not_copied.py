"""Objects that own connections, and so belong to the process that made them."""

from typing import NoReturn


class NotCopied:
    """A base for what cannot be copied or pickled; ``_instead`` says what to do."""

    _instead = "make one in each process"

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(f"{kind} cannot be copied or pickled: {self._instead}")
