"""Workers as processes: each has connections to several servers, and one for each of its slots."""

from dataclasses import dataclass, field
from functools import cached_property

from gearman_py.admin.answers import WorkerInfo

Identity = tuple[str, str]
LABELS = ("pool", "app", "release")


@dataclass
class WorkerRow:
    """A worker process: where it is, what it can do, and since when the collector has seen it.

    A worker without an id is a row for each of its connections: nothing tells which belong
    together.
    """

    address: str
    client_id: str
    since: float
    connections: int = 0
    functions: set[str] = field(default_factory=set)
    servers: set[str] = field(default_factory=set)

    @cached_property
    def facts(self) -> dict[str, str]:
        """Its host, pool, app and release, as far as its client id tells them, else ""."""
        pairs = (pair.partition("=") for pair in self.client_id.split(",")[1:])
        told = {name: value for name, _, value in pairs if name in LABELS}
        return {"host": self.address, **dict.fromkeys(LABELS, ""), **told}


class WorkerTable:
    """All workers, and since when they are there."""

    def __init__(self) -> None:
        self._since: dict[Identity, float] = {}

    def update(self, when: float, found: dict[str, list[WorkerInfo]]) -> list[WorkerRow]:
        """The workers among the connections of the servers that answer, by address and id."""
        rows: dict[Identity, WorkerRow] = {}
        for server, connections in found.items():
            for each in connections:
                if not each.functions:
                    continue
                unnamed = each.client_id in ("", "-")
                identity = each.address, f"{server} {each.fd}" if unnamed else each.client_id
                row = rows.get(identity)
                if row is None:
                    since = self._since.get(identity, when)
                    shown = "" if unnamed else each.client_id
                    row = rows[identity] = WorkerRow(each.address, shown, since)
                row.connections += 1
                row.functions.update(each.functions)
                row.servers.add(server)
        self._since = {identity: row.since for identity, row in rows.items()}
        return sorted(rows.values(), key=lambda row: (row.address, row.client_id))
