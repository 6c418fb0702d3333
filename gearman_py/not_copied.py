"""Objects that own connections and therefore belong to one process."""

from typing import NoReturn


class NotCopied:
    """Base class of objects that cannot be copied or pickled; ``_instead`` is advice."""

    _instead = "create one in each process"

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(f"{kind} cannot be copied or pickled: {self._instead}")
