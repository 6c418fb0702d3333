"""The options of gearmand about background jobs that have ended: see gearman_py.server.settings."""

from dataclasses import dataclass

from gearman_py.config import size
from gearman_py.server.listen_settings import ListenSettings
from gearman_py.server.option_fields import option


@dataclass(frozen=True)
class KeptSettings(ListenSettings):
    """What is kept of them."""

    keep_failed: int = option(
        10_000,
        "--keep-failed",
        "how many failed background jobs are kept of each function, to be looked at and retried; "
        "0: none (10000)",
        type=int,
        metavar="N",
    )
    keep_failed_days: float = option(
        7.0, "--keep-failed-days", "for how many days; 0: no limit (7)", type=float, metavar="DAYS"
    )
    keep_results: tuple[str, ...] = option(
        (),
        "--keep-results",
        "keep the results of background jobs for SECONDS, so that clients can fetch them; "
        "FUNCTION=SECONDS: of this function; may be repeated; 0: not (0)",
        metavar="SECONDS",
        action="append",
    )
    keep_results_memory: int = option(
        64 * 2**20,
        "--keep-results-memory",
        "how much memory these may take, such as 1G; the oldest are forgotten first (64M)",
        type=size,
        metavar="SIZE",
    )

    @property
    def result_seconds(self) -> dict[str, float]:
        """For how long results are kept, by function; "" is any other. Raises ValueError."""
        pairs = (each.rpartition("=") for each in self.keep_results)
        return {function: float(seconds) for function, _, seconds in pairs}
