"""Live jobs by what they coalesce on."""

from gearman_py.broker.job import Function, Job, Key

# A dict never shrinks by itself: it is copied when it has shed three quarters of at least this.
WORTH_COPYING = 4096


class Uniques:
    """The live jobs of each key: at most one of each function.

    A key is nearly always that of 1 job, and then no dict is spent for it.
    """

    def __init__(self) -> None:
        self._jobs: dict[Key, Job | dict[Function, Job]] = {}
        self._most = 0

    def get(self, key: Key, function: Function) -> Job | None:
        """The function's job of this key."""
        found = self._jobs.get(key)
        if isinstance(found, dict):
            return found.get(function)
        return found if found is not None and found.function is function else None

    def first(self, key: Key) -> Job | None:
        """The job of this key that came first, of whichever function."""
        found = self._jobs.get(key)
        return next(iter(found.values())) if isinstance(found, dict) else found

    def add(self, key: Key, job: Job) -> None:
        """Enter a job whose function has none of this key."""
        found = self._jobs.setdefault(key, job)
        if isinstance(found, dict):
            found[job.function] = job
        elif found is not job:
            self._jobs[key] = {found.function: found, job.function: job}

    def remove(self, key: Key, job: Job) -> None:
        """Strike a job out, if it is the one of this key."""
        jobs = self._jobs
        found = jobs.get(key)
        if found is job:
            self._most = max(self._most, len(jobs))
            del jobs[key]
            if self._most > WORTH_COPYING and len(jobs) * 4 < self._most:
                self._jobs, self._most = dict(jobs), len(jobs)
        elif isinstance(found, dict) and found.get(job.function) is job:
            del found[job.function]
            if len(found) == 1:
                (jobs[key],) = found.values()
