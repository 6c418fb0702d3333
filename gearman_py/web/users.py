"""The file of users: a line for each, with a role and the scrypt hash of the password.

    NAME:ROLE:scrypt:N:R:P:SALT:HASH

Salt and hash are in hexadecimal. `gearman-web --add-user` writes it.
"""

import hashlib
import hmac
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

READ, OPERATE = ROLES = ("read", "operate")
MIN_PASSWORD = 8  # characters
# RFC 7914; 32 MB and some 50 ms for each attempt (OWASP's second choice for scrypt).
COST, BLOCK_SIZE, PARALLEL = 2**15, 8, 3
MAX_MEMORY = 2**26  # bytes that OpenSSL may take for one hash
SALT_SIZE = 16


class UsersError(Exception):
    """The file of users cannot be used; the message says where and why."""


class DashboardUser(NamedTuple):
    """Who asks, and what they may do."""

    name: str
    role: str = READ

    @property
    def operates(self) -> bool:
        return self.role == OPERATE


class Account(NamedTuple):
    """A line of the file."""

    user: DashboardUser
    cost: int
    block_size: int
    parallel: int
    salt: bytes
    hash: bytes

    @classmethod
    def new(cls, user: DashboardUser, password: str) -> "Account":
        salt = secrets.token_bytes(SALT_SIZE)
        parameters = COST, BLOCK_SIZE, PARALLEL, salt
        return cls(user, *parameters, _hash_password(password, *parameters))

    @classmethod
    def from_line(cls, line: str) -> "Account":
        """Raises ValueError."""
        name, role, kind, *numbers, salt, digest = line.split(":")
        cost, block_size, parallel = map(int, numbers)
        if not name or role not in ROLES or kind != "scrypt":
            raise ValueError
        return cls(
            *(DashboardUser(name, role), cost, block_size, parallel),
            *(bytes.fromhex(salt), bytes.fromhex(digest)),
        )

    @property
    def line(self) -> str:
        numbers = self.cost, self.block_size, self.parallel
        values = *self.user, "scrypt", *numbers, self.salt.hex(), self.hash.hex()
        return ":".join(map(str, values))

    def accepts(self, password: str) -> bool:
        """Whether this is the password. It takes some 50 ms of CPU."""
        numbers = self.cost, self.block_size, self.parallel
        return hmac.compare_digest(self.hash, _hash_password(password, *numbers, self.salt))


def _hash_password(password: str, cost: int, block_size: int, parallel: int, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block_size, p=parallel, maxmem=MAX_MEMORY
    )


class Users:
    """The users of a file, which is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        """Raises UsersError."""
        self._path = path
        self._read_at: tuple[int, int] = (0, 0)
        self._accounts: dict[str, Account] = {}
        # Checked in place of an unknown user's password, so that both take the same time.
        self._decoy = Account.new(DashboardUser("", READ), secrets.token_urlsafe())
        self._refresh()

    def check(self, name: str, password: str) -> DashboardUser | None:
        """The user, if the password is theirs. Raises UsersError."""
        self._refresh()
        account = self._accounts.get(name)
        accepted = (account or self._decoy).accepts(password)
        return account.user if account and accepted else None

    def find(self, name: str) -> DashboardUser | None:
        """The user as the file says now: a session ends when its user is removed."""
        self._refresh()
        account = self._accounts.get(name)
        return account.user if account else None

    def password_id(self, name: str) -> str:
        """What tells a user's password from any they had before; "" of an unknown user."""
        account = self._accounts.get(name)
        return account.salt.hex() if account else ""

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            if (seen := (status.st_mtime_ns, status.st_size)) == self._read_at:
                return
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UsersError(f"{self._path}: {why}") from error
        self._accounts = {each.user.name: each for each in parse_accounts(self._path, text)}
        self._read_at = seen


def parse_accounts(path: Path, text: str) -> list[Account]:
    """The accounts of a file's text. Raises UsersError."""
    accounts = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                accounts.append(Account.from_line(line.strip()))
            except ValueError:
                expected = "NAME:ROLE:scrypt:N:R:P:SALT:HASH, as --add-user writes it"
                raise UsersError(f"{path}, line {number}: expected {expected}") from None
    return accounts


def write_account(path: Path, user: DashboardUser, password: str) -> None:
    """Add a user to the file, or change their role and password. Raises UsersError."""
    if len(password) < MIN_PASSWORD:
        raise UsersError(f"the password is too short: expected {MIN_PASSWORD} characters or more")
    if (
        not user.name
        or not user.name.isprintable()
        or ":" in user.name
        or user.name.strip() != user.name
    ):
        raise UsersError(
            f"{user.name!r} cannot be a user's name: expected no colon or space around"
        )
    try:
        text = path.read_text() if path.exists() else ""
        kept = [each for each in parse_accounts(path, text) if each.user.name != user.name]
        lines = [each.line for each in (*kept, Account.new(user, password))]
        with NamedTemporaryFile("w", dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
            file.write("".join(f"{line}\n" for line in lines))
        Path(file.name).replace(path)
    except OSError as error:
        raise UsersError(f"{path}: {error.strerror}") from error
