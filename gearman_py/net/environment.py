"""Variables that say where job servers are: from the environment, or a file of the host.

Not all programs are started by a login shell: those of cron, systemd and php-fpm find the job
servers in the file, which the toolkit writes.
"""

import os

FILE = "/etc/gearman/environment"


def read_variable(name: str) -> str:
    """The variable's value in the environment, else in FILE, else "". Raises ValueError."""
    return os.environ.get(name) or _read_file().get(name, "")


def _read_file() -> dict[str, str]:
    """The lines NAME=VALUE, as systemd's EnvironmentFile= and a shell read them."""
    try:
        with open(FILE, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{FILE}: {getattr(error, 'strerror', None) or error}") from error
    pairs = (line.partition("=") for line in lines if not line.startswith(("#", ";")))
    return {name: value.strip("\"'") for name, equals, value in pairs if equals}
