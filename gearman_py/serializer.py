"""Objects to workloads and back, for those who do not want to handle bytes.

Gearman's peers may be written in anything: what goes over the wire must be readable by all
of them, so JSON is here and pickle is not (it would also let a client run code in a worker).
"""

import json
from typing import Any, Protocol


class Serializer(Protocol):
    """Two functions: an object, or a module such as pickle; their parameters may have any names."""

    def dumps(self, value: Any, /) -> bytes:
        """The workload that stands for ``value``. May raise TypeError or ValueError."""

    def loads(self, data: bytes, /) -> Any:
        """The value of a workload. May raise ValueError."""


class _Json:
    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data) if data else None  # an empty result is how a peer says nothing

    def __repr__(self) -> str:
        return "JSON"


JSON: Serializer = _Json()
"""UTF-8 JSON without spaces; an empty workload is None."""
