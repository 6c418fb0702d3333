"""The configuration of a worker's slots."""

from dataclasses import dataclass
from typing import TypedDict

from gearman_py.net.servers import ServerAddress
from gearman_py.worker.validation import (
    check_process_count,
    check_seconds,
    check_single_word,
    check_whole_number,
)


class PoolOptions(TypedDict, total=False):
    """The options of Worker() for its slots; see there.

    ``burst``: drain when no server has a job.
    """

    client_id: str
    concurrency: int
    processes: int | tuple[int, int]
    drain_timeout: float
    max_jobs: int | None
    max_jobs_per_child: int | None
    max_memory_per_child: int | None
    max_packet: int
    reducers: bool
    burst: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The options, checked. Raises TypeError or ValueError for invalid ones."""

    servers: list[ServerAddress]
    client_id: str
    concurrency: int
    processes: int | tuple[int, int]
    drain_timeout: float
    max_jobs: int | None
    max_jobs_per_child: int | None
    max_memory_per_child: int | None
    max_packet: int
    reducers: bool
    burst: bool = False

    def __post_init__(self) -> None:
        check_single_word("client_id", self.client_id)
        check_seconds("drain_timeout", self.drain_timeout, zero=True)
        check_whole_number("concurrency", self.concurrency, 1)
        check_process_count(self.processes)
        check_whole_number("max_packet", self.max_packet, 1, 2**32 - 1)
        for name in ("max_jobs", "max_jobs_per_child", "max_memory_per_child"):
            if (most := getattr(self, name)) is not None:
                check_whole_number(name, most, 1)

    @property
    def least_processes(self) -> int:
        """The processes that there always are; 0: functions run in threads."""
        return self.processes[0] if isinstance(self.processes, tuple) else self.processes

    @property
    def most_processes(self) -> int:
        """The processes that there may be."""
        return self.processes[1] if isinstance(self.processes, tuple) else self.processes
