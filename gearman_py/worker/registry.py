"""The functions and hooks that were declared for a worker."""

from collections.abc import Collection

from gearman_py.serializer import Serializer
from gearman_py.worker.function_spec import FunctionSpec, Hook, Middleware, OnOutcome
from gearman_py.worker.job import Send, WorkerJob
from gearman_py.worker.job_proof import JobProof
from gearman_py.worker.session import Assignment
from gearman_py.worker.validation import (
    check_function_name,
    check_may_run,
    check_seconds,
    check_sendable,
    is_async_middleware,
)

NO_FUNCTIONS = "a worker needs at least one function"


class FunctionRegistry:
    """A worker's functions by the names they have on the wire.

    These begin with ``prefix``; once there is an ``address``, each function also has a second
    name that ends with ``@address``. ``timeout`` is in seconds, for functions without one of
    their own. ``exceptions``: whether clients are sent exceptions, or else warnings.
    """

    def __init__(
        self,
        *,
        prefix: str,
        serializer: Serializer | None,
        exceptions: bool,
        timeout: float | None = None,
        address: str = "",
    ) -> None:
        check_sendable("prefix", prefix)
        self.set_address(address)
        self.set_timeout(timeout)
        if serializer is not None and not (
            hasattr(serializer, "dumps") and hasattr(serializer, "loads")
        ):
            raise TypeError(
                f"serializer is {serializer!r}; expected an object with dumps and loads"
            )
        self.serializer = serializer
        self.exceptions = exceptions
        self.functions: dict[str, FunctionSpec] = {}
        self.is_partial = False  # some that were declared are not served
        self.middlewares: list[Middleware] = []
        self.on_startup: list[Hook] = []
        self.on_shutdown: list[Hook] = []
        self.on_outcome: list[OnOutcome] = []
        self.job_proof: JobProof | None = None  # of a worker that has its process for itself
        self._prefix = prefix

    def set_address(self, address: str) -> None:
        """Set the address of this worker. Raises TypeError or ValueError."""
        check_sendable("address", address)
        self._address = address

    def set_timeout(self, timeout: float | None) -> None:
        """Set the time limit for functions without one. Raises TypeError or ValueError."""
        if timeout is not None:
            check_seconds("timeout", timeout)
        self.timeout = timeout

    def limit_time(self, seconds: float) -> None:
        """Set the longest that a job of any function may take. Raises TypeError or ValueError."""
        self.set_timeout(seconds)
        self.functions = {name: spec.limited_to(seconds) for name, spec in self.functions.items()}

    def add_function(self, name: str, spec: FunctionSpec) -> None:
        """Raises TypeError or ValueError for an invalid name or one that is already taken."""
        if self._prefix + check_function_name(name) in self.functions:
            raise ValueError(f"there is already a function {name!r}")
        self.functions[self._prefix + name] = spec

    def keep_only(self, names: Collection[str]) -> None:
        """Serve only these, named with the prefix. Raises ValueError for those not declared."""
        if unknown := [name for name in names if name not in self.functions]:
            declared = ", ".join(self.functions) or "none"
            told = f"function{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}"
            raise ValueError(f"unknown {told}; declared: {declared}")
        self.functions = {name: self.functions[name] for name in names}
        self.is_partial = True

    def add_prefix(self, prefix: str) -> None:
        """Put ``prefix`` before the existing one. Raises TypeError or ValueError."""
        check_sendable("prefix", prefix)
        self.functions = {prefix + name: spec for name, spec in self.functions.items()}
        self._prefix = prefix + self._prefix

    def add_ping(self, name: str, *, alone: bool) -> None:
        """Serve ``name`` too, without prefix or address: it answers its workload.

        It runs where the other functions run, so its answer shows that they can run. With
        ``alone`` they are not served. Raises ValueError for a name that is already taken, or if
        there are no other functions.
        """
        if not self.functions:
            raise ValueError(NO_FUNCTIONS)
        if check_function_name(name) in self.functions:
            raise ValueError(f"there is already a function {name!r}")
        all_async = self.functions and all(spec.is_async for spec in self.functions.values())
        if alone:
            self.functions.clear()
            self.is_partial = True
        echo = _echo_async if all_async else _echo_workload
        self.functions[name] = FunctionSpec(function=echo, bare=True)

    def finish_declaring(self) -> None:
        """Check the functions together, and add the names that end with the address.

        Raises ValueError if there are no functions, or if they contradict each other, and
        RuntimeError while their module is imported for a worker that is run afterwards.
        """
        check_may_run()
        if not self.functions:
            raise ValueError(NO_FUNCTIONS)
        own = {name: spec for name, spec in self.functions.items() if not spec.bare}
        plain = [name for name, spec in own.items() if not spec.is_async]
        if plain and any(map(is_async_middleware, self.middlewares)):
            text = f"{plain[0]} is not async, and cannot have an async context manager around it"
            raise ValueError(text)
        for name, spec in self.functions.items():
            limit = self.time_limit(name)
            if spec.soft_timeout and not (limit and spec.soft_timeout < limit):
                text = f"{name}: soft_timeout is {spec.soft_timeout}, and needs a longer timeout"
                raise ValueError(text)
        if suffix := self._address_suffix:
            self.functions |= {
                name + suffix: spec for name, spec in own.items() if not name.endswith(suffix)
            }

    def time_limit(self, function: str) -> float | None:
        """The seconds that a job of ``function`` may take."""
        return self.functions[function].timeout or self.timeout

    def server_limits(self) -> dict[str, float]:
        """The time limits for servers to enforce, in seconds."""
        limits = {name: spec.server_timeout for name, spec in self.functions.items()}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def make_job(
        self, assignment: Assignment, server: str, send: Send, max_packet: int
    ) -> WorkerJob:
        """The job as its function sees it: its name has no prefix and no address."""
        job = WorkerJob(assignment, server, send, self.serializer, max_packet)
        if self._prefix or self._address:
            name = job.function.removeprefix(self._prefix)
            job.function = name.removesuffix(self._address_suffix)
        return job

    def find_spec(self, job: WorkerJob) -> FunctionSpec:
        """The declaration of the job's function."""
        spec = self.functions.get(self._prefix + job.function)
        return spec or self.functions[job.function]  # a ping has no prefix

    @property
    def _address_suffix(self) -> str:
        return f"@{self._address}" if self._address else ""


def _echo_workload(job: WorkerJob) -> bytes:
    return job.workload


async def _echo_async(job: WorkerJob) -> bytes:
    return job.workload
