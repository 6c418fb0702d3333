"""What the job servers say of functions, before a smoke test has a job done.

No job is submitted that no worker would take: who serves a function, and whether it is
paused, is asked by the client host, as an ordinary user.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from shlex import quote
from time import monotonic, sleep

from provision.commands.smoke_pages import Run
from provision.inventory.drained import serving_hosts
from provision.inventory.host import Host, Inventory
from provision.inventory.places import reached_at
from provision.inventory.schedules import ADMIN_SOCKET
from provision.report.events import Checked
from provision.wording import format_pause

QUESTION = "sh -lc 'gearadmin --stats --json'"
NOT_ALL_ANSWERED = 5  # gearadmin's exit status: others did
NO_ANSWER = (3, 4)  # gearadmin's: none answers
POLL_INTERVAL = 1.0  # seconds; a question is an SSH channel and a Python that starts


@dataclass(frozen=True)
class FunctionState:
    """A function at all job servers."""

    workers: int
    pauses: tuple[Checked, ...]  # where it is paused, and how that is ended


def server_hosts(known: Inventory) -> dict[str, Host]:
    """The hosts of job servers by HOST:PORT, as clients name them."""
    return {
        reached_at(host, host.variables["gearman_listen"], host.variables["gearman_port"]): host
        for host in serving_hosts(known)
    }


class JobServers:
    """The job servers, as the client host sees them; ``hosts``: theirs, by HOST:PORT."""

    def __init__(self, run: Run, hosts: Mapping[str, Host]) -> None:
        self._run = run
        self._hosts = hosts
        self.unreached = ""  # what gearadmin said if none of them answers
        self.pauses: list[Checked] = []  # of whole job servers
        self._states: dict[str, FunctionState] | None = None

    def ask(self) -> None:
        """Ask them. What they cannot tell is left to the jobs, which are submitted then."""
        done = self._run(QUESTION, b"")
        if done.status in NO_ANSWER:
            self.unreached = done.stderr.decode(errors="replace").strip()
        try:
            rows = json.loads(done.stdout) if done.status in (0, NOT_ALL_ANSWERED) else None
        except ValueError:
            rows = None
        if rows is None:
            self._states = None
            return
        self._states, pauses = {}, {}
        for row in rows:
            name, before = row["name"], self._states.get(row["name"], FunctionState(0, ()))
            paused = (self._function_pause(row),) if row["paused"] else ()
            both = before.workers + row["workers"], (*before.pauses, *paused)
            self._states[name] = FunctionState(*both)
            if row["server_paused"]:
                pauses[row.get("server", "")] = self._server_pause(row)
        self.pauses = [*pauses.values()]

    def pauses_of(self, function: str) -> tuple[Checked, ...]:
        """Where a function is paused."""
        state = (self._states or {}).get(function)
        return state.pauses if state else ()

    def unserved(self, functions: Collection[str]) -> list[str]:
        """Those that no worker serves, as far as is known."""
        if self._states is None:
            return []
        served = {name for name, state in self._states.items() if state.workers}
        return [name for name in dict.fromkeys(functions) if name not in served]

    def await_workers(
        self, functions: Collection[str], deadline: float, tell: Callable[[str], None]
    ) -> None:
        """Ask until workers serve all of them, or until the deadline, of the monotonic clock."""
        missing = self.unserved(functions)
        if missing and (left := deadline - monotonic()) > 0:
            tell(f"no worker serves {', '.join(missing)} yet: waiting up to {left:.0f} s for one")
        while missing and monotonic() < deadline:
            sleep(POLL_INTERVAL)
            self.ask()
            missing = self.unserved(functions)

    def _function_pause(self, row: Mapping[str, object]) -> Checked:
        since, by = float(str(row["paused_since"])), str(row["paused_by"])
        name, (where, how) = str(row["name"]), self._steering(row)
        problem = f"it is paused at {where}{format_pause(since, by)}: its jobs wait"
        return Checked(f"{name}: are its jobs done?", 0.0, problem, f"{how} --resume {quote(name)}")

    def _server_pause(self, row: Mapping[str, object]) -> Checked:
        where, how = self._steering(row)
        problem = "it is paused: it gives no jobs to workers"
        return Checked(f"job server {where}", 0.0, problem, f"{how} --resume-server")

    def _steering(self, row: Mapping[str, object]) -> tuple[str, str]:
        """What to call a job server, and the beginning of the command that steers it."""
        server = str(row.get("server", "")).rpartition("/")[2]
        host = self._hosts.get(server)
        where = host.name if host else server or "the job server"
        sudo = "" if host and host.user == "root" else "sudo "
        return where, f"on {where}: {sudo}gearadmin -h unix:{ADMIN_SOCKET}"
