"""The password for sudo: where it comes from, and who may try it.

It comes from the inventory, from the environment, or from the person at the terminal, who is
asked once for all hosts. One that two hosts have refused is not tried on another: with twenty
hosts, a slip of the finger would be twenty failed logins, and a locked account. One host's word is
not enough, for it may be compromised.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

from provision.errors import PasswordRefused
from provision.inventory.secrets import Secret
from provision.ssh.prompt import ask_password

VARIABLE = "GEARMAN_SUDO_PASSWORD"
MOST_REFUSALS = 2  # hosts that may refuse a password before it is wrong

Password = Callable[[], Secret | None]


class SudoPassword:
    """What is known of the passwords of one run."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asked = False
        self._typed: Secret | None = None
        self._accepted: set[Secret] = set()
        self._refused: dict[Secret | None, list[str]] = {}  # password -> by which hosts

    @contextmanager
    def offer_password(self, host: str, inventory: Secret | None) -> Iterator[Password]:
        """Gives what a session on ``host`` asks when sudo does, and sees how that ends.

        ``inventory``: the host's password as its inventory has it. A password that no host has
        accepted yet is tried by one host at a time; the others wait. Raises
        :class:`PasswordRefused`.
        """
        tried: Secret | None = None

        def password() -> Secret | None:
            nonlocal tried
            trial.enter_context(self._lock)
            secret = self._find_password(host, inventory)
            refused = self._refused.get(secret, [])
            if secret is None or secret in self._accepted:
                trial.close()
            elif host in refused or len(refused) == MOST_REFUSALS:
                raise PasswordRefused(
                    f"{host}: sudo asks for a password, and {' and '.join(refused)} refused it: "
                    "it was not tried here"
                )
            else:
                tried = secret
            return secret

        with ExitStack() as trial:
            try:
                yield password
            except PasswordRefused:
                if tried is not None:
                    self._refused.setdefault(tried, []).append(host)
                raise
            if tried is not None:
                self._accepted.add(tried)

    def _find_password(self, host: str, inventory: Secret | None) -> Secret | None:
        if inventory is not None:
            return inventory
        if VARIABLE in os.environ:
            return Secret(os.environ[VARIABLE])
        if not self._asked:
            self._asked = True
            self._typed = ask_password(f"sudo password (first asked for by {host}): ")
        return self._typed
