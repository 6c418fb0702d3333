"""Signs what hosts verify (provision/agent/signed.py), with the operator's key."""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from provision.agent.signed import IDENTITY, SIGNERS
from provision.errors import ToolkitError
from provision.remote.messages import Operation

SIGNING_TIMEOUT = 60.0  # seconds: a key on a token waits for a touch


def with_signatures(key: Path | None, operations: Iterable[Operation]) -> Iterator[Operation]:
    """The operations, and before each that a host may want signed, its signature by the key.

    Raises :class:`ToolkitError` if the key cannot sign.
    """
    for operation in operations:
        if key and operation.kind in ("release", "signers"):
            root, id, digest = _describe(operation)
            yield _sign_once(key, root, id, digest)
        yield operation


def _describe(operation: Operation) -> tuple[str, str, str]:
    """The root, the name and the digest of what is signed."""
    arguments, content = operation.arguments, operation.content
    if isinstance(content, bytes):
        return arguments["root"], SIGNERS, hashlib.sha256(content).hexdigest()
    return arguments["root"], arguments["id"], arguments["digest"]


@cache
def _sign_once(key: Path, root: str, id: str, digest: str) -> Operation:
    """The same for all hosts of a run."""
    return sign(key, root, id, digest, time.time())


def sign(key: Path, root: str, id: str, digest: str, now: float) -> Operation:
    """A statement and its signature. Raises ToolkitError if the key cannot sign."""
    statement = json.dumps({"root": root, "id": id, "digest": digest, "time": now})
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", IDENTITY]
    try:
        done = subprocess.run(
            command,
            input=statement.encode(),
            capture_output=True,
            timeout=SIGNING_TIMEOUT,
            start_new_session=True,  # it cannot ask for a passphrase on the terminal
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise ToolkitError(f"gearman_signing_key: {key} cannot sign: {error}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ToolkitError(
            f"gearman_signing_key: {key} cannot sign: {said[-1] if said else 'no reason given'}; a "
            "key with a passphrase is first given to the SSH agent (ssh-add)"
        )
    signature = done.stdout.decode()
    return Operation("signature", {"root": root, "statement": statement, "signature": signature})
