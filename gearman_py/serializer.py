"""Conversion of objects to workloads and back.

Gearman's peers may be written in any language and must be able to read workloads: hence JSON, and
not pickle, which would also let a client run code in a worker.
"""

import json
from typing import Any, Protocol


class Serializer(Protocol):
    """An object or module with these two functions; parameter names do not matter."""

    def dumps(self, value: Any, /) -> bytes:
        """Encode ``value`` as a workload. May raise TypeError or ValueError."""

    def loads(self, data: bytes, /) -> Any:
        """Decode a workload. May raise ValueError."""


class _Json:
    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data) if data else None  # peers without a result send an empty one

    def __repr__(self) -> str:
        return "JSON"


JSON: Serializer = _Json()
"""UTF-8 JSON without spaces; an empty workload is None."""
