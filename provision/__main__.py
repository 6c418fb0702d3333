"""``python -m provision``: what ./invoke runs. Ctrl-C while it loads shows no traceback."""

import resource
import signal


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold keys and passwords
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the tasks are loaded
    from provision.program import run_tasks

    run_tasks()


main()
