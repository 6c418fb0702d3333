"""Which job servers are drained, for commands that change nothing."""

from provision.fleet.pool import run_on_each
from provision.fleet.run import Connect
from provision.inventory.drained import DRAINED_QUESTION
from provision.inventory.host import Host, Inventory


def find_drained(known: Inventory, connect: Connect) -> set[str]:
    """The names of their hosts. The only job server of an inventory is not asked."""
    servers = known.group("job_server")

    def ask(host: Host) -> object:
        with connect(host) as session:
            return session.ask([DRAINED_QUESTION])[DRAINED_QUESTION]

    answers = run_on_each(servers, ask) if len(servers) > 1 else ()
    return {host.name for host, answer in answers if isinstance(answer, dict)}
