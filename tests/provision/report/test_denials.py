"""What a worker says when its unit forbids something, and the setting that helps, if one does."""

import pytest

from provision.report.denials import find_denials

UNIT = "gearman-worker@shop.service"


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("PHP Warning: preg_match(): Allocation of JIT memory failed", "jit: true of worker shop"),
        ("cp: cannot create '/srv/out/a': Read-only file system", "writes: [/srv/out] of worker"),
        ("touch: /etc/passwd: Read-only file system", "have worker shop write elsewhere: /etc"),
        (
            "OSError: [Errno 97] Address family not supported by protocol",
            "the unit of worker shop has IPv4, IPv6 and Unix sockets, and no setting adds others",
        ),
        ("PermissionError: [Errno 1] Operation not permitted", "no setting allows it, unless"),
    ],
)
def test_a_denial_is_told_with_what_helps(line: str, cure: str) -> None:
    ((told, found),) = find_denials(UNIT, ["Started.", line, line])
    assert told == line
    assert cure in found


def test_what_is_not_denied_is_not_told() -> None:
    assert list(find_denials(UNIT, ["Started.", "FileNotFoundError: /srv/x", "job done"])) == []
