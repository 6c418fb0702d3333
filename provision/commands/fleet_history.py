"""What the hosts of an inventory remember of deploys, for a page that may ask again and again."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from time import monotonic

from gearman_py.web.deploy_records import ToldDeploys
from provision.commands.history import rows_of_runs
from provision.errors import ToolkitError
from provision.fleet import pool
from provision.fleet.past_runs import PAST_RUNS
from provision.fleet.run import Connect
from provision.inventory.host import Host
from provision.options import HOSTS_AT_ONCE
from provision.resources.base import Answers

FRESH = 30.0  # seconds for which an answer is good


class FleetHistory:
    """Asks all hosts at once when it is read, from any thread, and remembers what they said.

    It asks for no sudo password: a host that needs one which is not known yet fails.
    """

    def __init__(self, hosts: Sequence[Host], connect: Connect = pool.connect) -> None:
        self._hosts = hosts
        self._connect = connect
        self._lock = Lock()
        self._told: tuple[float, ToldDeploys] | None = None

    def read(self) -> ToldDeploys:
        """The runs, each with the hosts that tell of it, and why others tell nothing."""
        with self._lock:
            if self._told is None or monotonic() > self._told[0] + FRESH:
                self._told = monotonic(), self._ask_hosts()
            return self._told[1]

    def _ask_hosts(self) -> ToldDeploys:
        found: dict[str, Answers] = {}
        failures = []
        with (
            pool.open_sessions(self._connect) as connect,
            ThreadPoolExecutor(HOSTS_AT_ONCE) as threads,
        ):
            asked = [(host, threads.submit(_ask, host, connect)) for host in self._hosts]
            for host, answer in asked:
                try:
                    found[host.name] = answer.result()
                except ToolkitError as error:
                    failures.append(f"{host.name}: {str(error).splitlines()[0]}")
        return ToldDeploys(rows_of_runs(found), failures)


def _ask(host: Host, connect: Connect) -> Answers:
    return connect(host).ask((PAST_RUNS,))
