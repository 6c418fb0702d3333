"""The agent on this machine, over a pipe: what it answers, changes, and never does."""

import ast
import grp
import hashlib
import io
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import pytest

from provision.agent import probe
from provision.agent.link import ENVIRONMENT
from provision.errors import HostFailed, Locked, ToolkitError
from provision.remote.local_channel import LocalChannel
from provision.remote.messages import Operation, OperationOutcome, Unknown
from provision.remote.session import AGENT, ASKING, Session
from tests.attacks import attack
from tests.provision.local import session
from tests.waiting import await_result

NOW = {"who": "ana@laptop", "since": "14:02", "doing": "invoke deploy, pid 7"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent gives files to root")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One for all tests that change nothing: it has no lock."""
    with session(tmp_path_factory.mktemp("agent")) as opened:
        yield opened


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Session]:
    with session(tmp_path) as opened:
        opened.lock(NOW)
        yield opened


def owned(path: Path, mode: str = "0640") -> dict[str, str]:
    return {"path": str(path), "owner": "root", "group": "root", "mode": mode}


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder whose path nobody else can change, as anyone can where /tmp is not sticky."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as made:
        yield Path(made)


def apply(agent: Session, *operations: Operation) -> list[OperationOutcome]:
    return list(agent.apply(operations))


def answer(agent: Session, *question: str) -> Any:
    return agent.ask([question])[question]


# -- what it answers --------------------------------------------------------------------


def test_the_folder_above_secrets_is_no_secret(locked: Session, tmp_path: Path) -> None:
    path = tmp_path / "gearman" / "secrets" / "a.b"
    apply(locked, Operation("secret", {"path": str(path)}, b"secret"))
    modes = [oct(each.stat().st_mode & 0o777) for each in (path.parents[1], path.parent, path)]
    assert modes == ["0o755", "0o700", "0o600"]


def test_all_is_answered_at_once_and_equal_questions_once(agent: Session) -> None:
    answers = agent.ask([("host",), ("user", "root"), ("user", "nobody-at-all"), ("user", "root")])
    assert list(answers) == [("host",), ("user", "root"), ("user", "nobody-at-all")]
    assert answers["host",]["machine"] == os.uname().machine
    assert answers["user", "root"]["home"] == "/root"
    assert answers["user", "nobody-at-all"] is None


def test_what_is_at_a_path(agent: Session, tmp_path: Path) -> None:
    text, link = tmp_path / "text", tmp_path / "link"
    text.write_text("welcome\n")
    text.chmod(0o640)
    link.symlink_to("text")
    digest = hashlib.sha256(b"welcome\n").hexdigest()

    found = answer(agent, "path", str(text), digest, "text")
    assert (found["kind"], found["mode"], found["digest"]) == ("file", "0640", digest)
    assert found["content"] is None
    assert answer(agent, "path", str(text), "another", "text")["content"] == "welcome\n"
    assert answer(agent, "path", str(text), "another", "")["content"] is None
    assert answer(agent, "path", str(link), "", "")["target"] == "text"
    assert answer(agent, "path", str(tmp_path), "", "")["kind"] == "directory"
    assert answer(agent, "path", str(tmp_path / "nothing"), "", "") is None
    assert answer(agent, "path", str(text / "below a file"), "", "") is None


@pytest.mark.parametrize(
    ("owner", "mode", "user", "writable"),
    [
        ("root", 0o755, "nobody", False),
        ("root", 0o777, "nobody", True),
        ("nobody", 0o700, "nobody", True),
        ("nobody", 0o500, "nobody", False),
        ("nobody", 0o700, "gearman-not-yet", False),
        ("root", 0o777, "gearman-not-yet", True),
    ],
)
def test_whether_a_user_can_write_in_a_folder(
    agent: Session, owner: str, mode: int, user: str, writable: bool
) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # open to all from above
        Path(folder).chmod(0o755)
        path = Path(folder, "up")
        path.mkdir()
        shutil.chown(path, owner)
        path.chmod(mode)
        assert answer(agent, "writable", str(path), user) is writable
        Path(folder).chmod(0o700)
        assert answer(agent, "writable", str(path), user) is False, "the folder above is closed"
    assert answer(agent, "writable", str(path), user) is None


def test_names_and_contents_that_are_no_utf8_are_told_all_the_same(
    agent: Session, tmp_path: Path
) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff"
    Path(os.fsdecode(odd)).symlink_to(os.fsdecode(b"\xfe"))
    assert answer(agent, "path", os.fsdecode(odd), "", "")["target"] == "\\xfe"
    (tmp_path / "picture").write_bytes(b"\xff\xd8")
    assert answer(agent, "path", str(tmp_path / "picture"), "another", "text")["content"] is None


def test_who_listens_on_a_port(agent: Session) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert answer(agent, "port", "127.0.0.1", port)["pid"] == os.getpid()
        assert answer(agent, "port", "0.0.0.0", port)["pid"] == os.getpid()
        assert answer(agent, "port", "127.0.0.2", port) is None


def test_a_path_that_leads_nowhere_has_no_disk(agent: Session) -> None:
    assert isinstance(answer(agent, "disk", "nowhere-at-all"), Unknown)


def test_what_fails_for_all_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that hangs is waited for once, not once for each unit."""
    monkeypatch.setattr(probe, "SYSTEMD", str(tmp_path))  # as where systemd runs
    tries = tmp_path / "tries"
    batch = probe.Batch([("unit", f"u{number}.service") for number in range(6)])
    command = tmp_path / "systemctl"
    command.write_text(f"#!/bin/sh\necho >> {tries}\nexit 1\n")
    command.chmod(0o755)
    path = ENVIRONMENT["PATH"]
    ENVIRONMENT["PATH"] = f"{tmp_path}:{path}"
    try:
        answers = [batch.answer(("unit", f"u{number}.service")) for number in range(6)]
    finally:
        ENVIRONMENT["PATH"] = path
    assert all("ended with 1" in each["unknown"] for each in answers)
    assert tries.read_text() == "\n"


def test_what_cannot_be_answered_is_unknown_and_says_why(agent: Session, tmp_path: Path) -> None:
    (tmp_path / "releases").write_text("no folder")
    found = answer(agent, "releases", str(tmp_path))
    assert isinstance(found, Unknown)
    assert "Not a directory" in found.reason
    assert isinstance(answer(agent, "weather", "tomorrow"), Unknown)


def test_a_plan_sends_only_what_asks_and_answers(tmp_path: Path) -> None:
    sent: list[bytes] = []

    class Recorder(LocalChannel):
        def send(self, data: bytes) -> None:
            sent.append(data)
            super().send(data)

    sources = {path.stem: path.read_bytes() for path in AGENT.glob("*.py") if path.stat().st_size}
    with Session("here", Recorder, lock_file=str(tmp_path / "lock")) as agent:
        agent.ask([("host",)])
        assert {name for name, source in sources.items() if source in b"".join(sent)} == {
            *("link", *ASKING)
        }
        agent.lock(NOW)
        missing = {name for name, source in sources.items() if source not in b"".join(sent)}
        assert missing == {"admin_relay", "records", "shell", "survey"}


def test_what_answers_cannot_write() -> None:
    """What the asking half calls, by name: only these could open, run or change a thing."""
    trees = [ast.parse((AGENT / f"{name}.py").read_text()) for name in ASKING]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {ast.unparse(call.func) for call in calls}
    plain = {name for name in called if name.replace(".", "").isidentifier()}
    assert {name for name in plain if name.startswith("os.")} == {
        *("os.open", "os.fsencode", "os.fsdecode", "os.confstr", "os.statvfs"),
        *("os.cpu_count", "os.getloadavg", "os.listxattr", "os.sysconf"),
        *("os.lstat", "os.stat", "os.readlink", "os.listdir", "os.scandir"),
        *(
            "os.path.exists",
            "os.path.isdir",
            "os.path.isfile",
            "os.path.getsize",
            "os.path.islink",
            "os.path.dirname",
            "os.path.basename",
            "os.path.join",
        ),
        *("os.walk", "os.path.realpath", "os.getgrouplist"),
    }
    assert {name for name in called if name.startswith("subprocess.")} == {"subprocess.run"}
    for call in calls:
        match ast.unparse(call.func):
            case "open":
                assert [ast.unparse(each) for each in call.args[1:]] in ([], ["'rb'"])
            case "os.open":
                flags = set(ast.unparse(call.args[1]).split(" | "))
                assert flags == {"os.O_RDONLY", "os.O_NOFOLLOW", "os.O_NONBLOCK", "os.O_CLOEXEC"}
            case "run_query":
                assert ast.unparse(call.args[0]).startswith(
                    (
                        "['systemctl', 'show', ",
                        "['dpkg-query', '-W', ",
                        "['rpm', '-q', ",
                        "['nft', '-s', 'list', ",
                        "[*program, ",  # a Python of its own that reads the queue, as its owner
                    )
                )


def test_both_halves_are_python_3_9() -> None:
    for path in AGENT.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


# -- what it changes --------------------------------------------------------------------


def test_files_directories_and_links_are_made_and_mended(locked: Session, tmp_path: Path) -> None:
    folder, file, link = tmp_path / "d", tmp_path / "d" / "f", tmp_path / "d" / "l"
    outcomes = apply(
        locked,
        Operation("directory", owned(folder, "0750")),
        Operation("file", owned(file), b"one"),
        Operation("file", owned(file, "4755"), b"two"),
        Operation("link", {"path": str(link), "target": "elsewhere"}),
        Operation("link", {"path": str(link), "target": "f"}),
        Operation("directory", owned(folder, "0755")),
    )
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert file.read_bytes() == link.read_bytes() == b"two"
    assert stat.S_IMODE(file.stat().st_mode) == 0o4755
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755

    apply(
        locked,
        Operation("attributes", owned(file, "0600")),
        Operation("remove", {"path": str(link)}),
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(folder) == ["f"]


def test_it_stops_at_the_first_failure_and_can_go_on(locked: Session, tmp_path: Path) -> None:
    outcomes = apply(
        locked,
        Operation("file", owned(tmp_path / "a"), b"a"),
        Operation("file", owned(tmp_path / "nowhere" / "b"), b"b"),
        Operation("file", owned(tmp_path / "c"), b"c"),
    )
    assert [outcome.error for outcome in outcomes] == [
        None,
        f"No such file or directory: {tmp_path}/nowhere",
    ]
    assert not (tmp_path / "c").exists()
    assert apply(locked, Operation("file", owned(tmp_path / "c"), b"c"))[0].error is None


def test_who_stops_listening_ends_the_session(tmp_path: Path) -> None:
    with session(tmp_path) as agent:
        agent.lock(NOW)
        outcomes = agent.apply([Operation("file", owned(tmp_path / name), b"") for name in "abc"])
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]  # it is a generator
        with pytest.raises(ToolkitError):  # and no outcome is taken for an answer
            agent.ask([("group", "root")])
    with session(tmp_path) as other:
        other.lock(NOW)


def test_a_large_content_is_sent_when_its_turn_has_come(locked: Session, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3_000_001))
    copy = tmp_path / "copy"
    steps = [Operation("file", owned(copy), big), Operation("file", owned(tmp_path / "x"), b"x")]
    assert [outcome.error for outcome in apply(locked, *steps)] == [None, None]
    assert copy.read_bytes() == big.read_bytes()


@attack("local user", "a link where root writes a file", "held")
def test_a_file_is_never_written_through_a_link(locked: Session, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("old")
    (tmp_path / "link").symlink_to("precious")
    apply(locked, Operation("file", owned(tmp_path / "link"), b"new"))
    assert (tmp_path / "precious").read_text() == "old"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()


@attack(
    "local user",
    "a link in a folder of a worker that root makes, changes or removes things in",
    "mended",
)
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a folder of another user")
def test_nothing_is_changed_where_another_user_s_link_leads(locked: Session, home: Path) -> None:
    """As a worker could make one in a folder that it writes to."""
    (home / "precious").mkdir(mode=0o755)
    (home / "precious" / "old").write_text("old")
    (home / "writes").mkdir()
    (home / "writes" / "link").symlink_to(home / "precious")
    (home / "link").symlink_to("precious")  # of root, in a folder of root
    (there,) = apply(locked, Operation("attributes", owned(home / "link" / "old", "0640")))
    assert there.error is None
    os.chown(home / "writes", 65534, 65534)
    for made in (
        Operation("directory", owned(home / "writes" / "link" / "new")),
        Operation("file", owned(home / "writes" / "link" / "old"), b"new"),
        Operation("attributes", owned(home / "writes" / "link" / "old", "0666")),
        Operation("link", {"path": f"{home}/writes/link/old", "target": "x"}),
        Operation("remove", {"path": f"{home}/writes/link/old"}),
    ):
        (outcome,) = apply(locked, made)
        assert outcome.error == (
            f"the path goes through a link, and others may write in {home}/writes"
        )
    assert os.listdir(home / "precious") == ["old"]
    found = home / "precious" / "old"
    assert (found.read_text(), stat.S_IMODE(found.stat().st_mode)) == ("old", 0o640)


@attack("local user", "a folder that all may write to", "held")
def test_nothing_is_written_where_everybody_may(locked: Session, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (outcome,) = apply(locked, Operation("file", owned(tmp_path / "open" / "f"), b""))
    assert outcome.error == f"everybody may write in {tmp_path}/open: nothing of ours is safe there"


def test_what_a_killed_deploy_left_is_swept(locked: Session, tmp_path: Path) -> None:
    (tmp_path / ".gp-0123456789abcdef").write_text("half")
    (tmp_path / ".gp-notes").write_text("someone's")
    apply(locked, Operation("file", owned(tmp_path / "f"), b"whole"))
    assert sorted(os.listdir(tmp_path)) == [".gp-notes", "f", "lock"]


def test_where_the_lock_cannot_be_had_nothing_is_changed(tmp_path: Path) -> None:
    with session(tmp_path / "nowhere") as agent, pytest.raises(HostFailed) as raised:
        agent.lock(NOW)
    assert str(raised.value).startswith("here: it cannot be locked, No such file or directory")


def test_nothing_is_changed_without_the_lock(agent: Session, tmp_path: Path) -> None:
    with pytest.raises(HostFailed, match="must be locked"):
        apply(agent, Operation("file", owned(tmp_path / "f"), b""))
    assert not (tmp_path / "f").exists()


# -- releases ---------------------------------------------------------------------------


def tar(path: Path, **members: bytes) -> str:
    """A tar of these, `__` for `/`; its digest."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stage(agent: Session, root: Path, digest: str) -> str:
    (root / "releases").mkdir(exist_ok=True)
    arguments = {"root": str(root), "id": "1.0-abc", "digest": digest}
    (outcome,) = apply(agent, Operation("release", arguments, root / "release.tar"))
    assert answer(agent, "releases", str(root))["kept"] == {}
    return str(outcome.error)


@attack("in the middle", "another release than was built", "held")
def test_a_release_that_is_not_what_was_wanted_is_refused(locked: Session, tmp_path: Path) -> None:
    tar(tmp_path / "release.tar", MANIFEST=b"{}")
    (tmp_path / "releases" / "0.9-def.partial" / "wheels").mkdir(parents=True)
    assert "arrived as sha256" in stage(locked, tmp_path, "0" * 64)
    assert os.listdir(tmp_path / "releases") == []


@attack("colleague", "a name in a release that leads elsewhere", "held")
@pytest.mark.parametrize("name", ["..__outside", "__outside", ".hidden", "wheels__..__x"])
def test_a_release_with_a_name_that_leads_elsewhere_is_refused(
    locked: Session, tmp_path: Path, name: str
) -> None:
    digest = tar(tmp_path / "release.tar", **{name: b"x"})
    assert "not a regular file with a plain name" in stage(locked, tmp_path, digest)
    assert sorted(os.listdir(tmp_path)) == ["lock", "release.tar", "releases"]
    assert os.listdir(tmp_path / "releases") == []


def test_a_release_without_an_installer_is_not_complete(locked: Session, tmp_path: Path) -> None:
    digest = tar(tmp_path / "release.tar", wheels__x=b"")
    assert stage(locked, tmp_path, digest).startswith("the release has no installer: ")


@contextmanager
def running(place: Path, *uids: int) -> Iterator[None]:
    """A process of a user, by its real and effective ID, that says it is run from ``place``.

    It works there too, if that is a folder.
    """
    argv = [f"{place}/venv/bin/python", "600"]
    become = partial(os.setresuid, uids[0], uids[1], uids[1])
    folder = place if place.is_dir() else None
    with subprocess.Popen(argv, executable="/bin/sleep", preexec_fn=become, cwd=folder) as process:
        try:
            yield
        finally:
            process.kill()


@attack(
    "local user",
    "a command line that names a release, to have the host refused or rolled back to it",
    "mended",
)
@attack("local user", "keep `retire` and pruning from ending by working in /opt/gearman", "held")
def test_what_other_users_say_they_run_is_no_evidence(agent: Session, tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for id in ("1.0-abc", "1.0-def"):
        (releases / id).mkdir(parents=True)
    nobody = pwd.getpwnam("nobody").pw_uid
    with running(releases / "1.0-abc", nobody, nobody), running(releases / "1.0-abc", nobody, 0):
        assert answer(agent, "releases", str(tmp_path))["running"] == []
        with running(releases / "1.0-def", 0, 0), running(releases / "bad name!", 0, 0):
            assert answer(agent, "releases", str(tmp_path))["running"] == ["1.0-def"]


def test_files_of_an_app_may_have_any_names(locked: Session, tmp_path: Path) -> None:
    names = ("c\nd", "line\u2028separator", "form\ffeed", "caf\udce9", "'quoted'")
    digest = tar(tmp_path / "release.tar", **{f"app/{name}": b"x" for name in names})
    (tmp_path / "releases").mkdir()
    arguments = {"root": str(tmp_path), "id": "shop-abc", "digest": digest}
    (outcome,) = apply(locked, Operation("release", arguments, tmp_path / "release.tar"))
    assert outcome.error is None
    (tmp_path / "current").symlink_to("releases/shop-abc")
    known = answer(locked, "releases", str(tmp_path))
    assert (list(known["kept"]), known["damaged"]) == (["shop-abc"], {})
    (tmp_path / "releases" / "shop-abc" / "app" / "c\nd").write_text("changed")
    assert answer(locked, "releases", str(tmp_path))["damaged"] == {"shop-abc": "'app/c\\nd'"}


def test_a_release_gets_its_contexts_where_selinux_is_on(tmp_path: Path) -> None:
    """The kernel here has none: this shows what is run, and for what."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "restorecon").write_text(f'#!/bin/sh\nls -d "$@" > {tmp_path}/restored\n')
    (tools / "restorecon").chmod(0o755)
    enforced = "mount -t tmpfs none /sys/fs; mkdir /sys/fs/selinux; touch /sys/fs/selinux/enforce"
    with_tools = f"mount --bind {tools} /usr/local/sbin"

    def start(line: str) -> LocalChannel:
        return LocalChannel(
            shlex.join(["unshare", "--mount", "sh", "-c", f"{enforced}; {with_tools}; {line}"])
        )

    digest = tar(tmp_path / "release.tar", app__worker=b"x")
    (tmp_path / "releases").mkdir()
    arguments = {"root": str(tmp_path), "id": "shop-abc", "digest": digest}
    with Session("here", start, lock_file=str(tmp_path / "lock")) as agent:
        agent.lock(NOW)
        (outcome,) = apply(agent, Operation("release", arguments, tmp_path / "release.tar"))
    assert outcome.error is None
    assert (tmp_path / "restored").read_text() == f"{tmp_path}/releases/shop-abc\n"


def test_a_release_that_is_complete_is_left_alone(locked: Session, tmp_path: Path) -> None:
    folder = tmp_path / "releases" / "1.0-abc"
    folder.mkdir(parents=True)
    for name in (".complete", "runs"):
        (folder / name).touch()
    digest = tar(tmp_path / "release.tar", MANIFEST=b"{}")
    arguments = {"root": str(tmp_path), "id": "1.0-abc", "digest": digest}
    (outcome,) = apply(locked, Operation("release", arguments, tmp_path / "release.tar"))
    assert outcome.error is None
    assert sorted(os.listdir(folder)) == [".complete", "runs"]
    assert answer(locked, "group", "root") == {"gid": 0}


# -- the lock, and the end --------------------------------------------------------------


def test_a_release_that_was_bad_is_known_as_such_when_it_is_removed(
    locked: Session, tmp_path: Path
) -> None:
    releases = tmp_path / "releases"
    for id in ("1.0-abc", "1.0-def"):
        (releases / id / "wheels").mkdir(parents=True)
        (releases / id / ".complete").write_text("")
    bad = {"root": str(tmp_path), "id": "1.0-abc"}
    good = {"root": str(tmp_path), "id": "1.0-def"}
    apply(locked, Operation("condemn", bad, b"it was slow"))
    assert answer(locked, "releases", str(tmp_path))["kept"]["1.0-abc"]["bad"] == "it was slow"
    for outcome in apply(locked, Operation("prune", bad), Operation("prune", good)):
        assert outcome.error is None
    known = answer(locked, "releases", str(tmp_path))
    assert (known["kept"], known["given_up"]) == ({}, {"1.0-abc": "it was slow"})
    assert os.listdir(releases) == ["1.0-abc"]
    assert os.listdir(releases / "1.0-abc") == [".bad"]


def test_who_has_the_lock_is_told_and_its_end_frees_it(tmp_path: Path) -> None:
    with session(tmp_path) as first, session(tmp_path) as second:
        first.lock(NOW)
        with pytest.raises(Locked) as raised:
            second.lock({"who": "ben@desk"})
        message = "here is locked: ana@laptop since 14:02, invoke deploy, pid 7"
        assert str(raised.value) == message
        first.close()
        second.lock({"who": "ben@desk"})


DRIVER = """\
import sys
from pathlib import Path
from provision.remote.messages import Operation
from tests.waiting import await_result
from tests.provision.local import session

folder = Path(sys.argv[1])
agent = session(folder)
agent.lock({"who": "ana"})
print("locked", flush=True)
list(agent.apply([Operation("packages", {"names": ["x"], "manager": "apt-get"})]))
"""


def test_a_killed_operator_frees_the_lock_and_ends_the_command(tmp_path: Path) -> None:
    # The command: an apt-get of ours, which never ends, found in a mount of its own.
    slow = tmp_path / "apt-get"
    slow.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nexec sleep 600\n"
    )
    slow.chmod(0o755)
    line = f"mount --bind {slow} /usr/bin/apt-get && exec {sys.executable} - {tmp_path}"
    driver = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", line],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(AGENT.parents[1])},
    )
    assert driver.stdin
    driver.stdin.write(DRIVER.encode())
    driver.stdin.close()
    pid = int(await_result(lambda: (tmp_path / "pid").read_text(), OSError, Locked))
    with session(tmp_path) as other:
        with pytest.raises(Locked, match="ana"):
            other.lock(NOW)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        await_result(lambda: other.lock(NOW), OSError, Locked)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_what_a_killed_agent_was_running_ends_with_it(tmp_path: Path) -> None:
    opened: list[LocalChannel] = []

    def start(line: str) -> LocalChannel:
        opened.append(LocalChannel(f"exec env {line.partition('; ')[2]}"))
        return opened[0]

    script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 600"
    command = {"command": ["sh", "-c", script], "seconds": 600.0}
    with Session("here", start, lock_file=str(tmp_path / "lock")) as agent:
        agent.lock(NOW)
        outcomes = agent.apply([Operation("job", command, b"")])

        def kill() -> None:
            await_result((tmp_path / "pid").read_text, OSError, Locked)
            opened[0].process.kill()

        killer = Thread(target=kill)
        killer.start()
        with pytest.raises(HostFailed, match="the agent was gone while `job` was being done"):
            next(outcomes)
        killer.join()
    pid = (tmp_path / "pid").read_text().strip()
    await_result(lambda: ended(pid), OSError, Locked)


@pytest.mark.slow
def test_a_job_of_a_trial_that_hangs_is_stopped_with_all_that_it_started(
    locked: Session, tmp_path: Path
) -> None:
    script = f"sleep 600 & echo $$ $! >{tmp_path}/pids; wait"
    command = {"command": ["sh", "-c", script], "seconds": 3.0}
    (outcome,) = locked.apply([Operation("job", command, b"")])
    assert outcome.error == f"`sh -c {script}` was stopped after 3 s"
    for pid in (tmp_path / "pids").read_text().split():
        await_result(partial(ended, pid), OSError, Locked)


def ended(pid: str) -> None:
    if Path(f"/proc/{pid}").exists():
        raise OSError("it goes on")


def test_an_agent_that_breaks_says_where(locked: Session) -> None:
    wrong = Operation("remove", {"path": "/x"})
    object.__setattr__(wrong, "arguments", {"road": "/x"})
    with pytest.raises(HostFailed) as raised:
        apply(locked, wrong)
    lines = str(raised.value).splitlines()
    assert lines[0] == "here: the agent broke while `remove` was being done:"
    assert lines[-1] == "| TypeError: remove_path() got an unexpected keyword argument 'road'"


def test_an_agent_that_is_killed_is_a_message() -> None:
    opened: list[LocalChannel] = []

    def start(line: str) -> LocalChannel:
        opened.append(LocalChannel(f"exec env {line.partition('; ')[2]}"))
        return opened[0]

    with Session("here", start) as agent:
        agent.ask([("host",)])
        process = opened[0].process
        process.send_signal(signal.SIGSTOP)  # so that it dies after it was asked, not before
        Timer(0.05, process.kill).start()
        with pytest.raises(HostFailed) as raised:
            agent.ask([("host",)])
    assert str(raised.value) == "here: the agent was gone while it was asked how it is"


@pytest.mark.skipif(not shutil.which("sudo"), reason="no sudo here")
def test_with_sudo_it_is_the_same(tmp_path: Path) -> None:
    with Session("here", LocalChannel, sudo=True) as agent:
        assert answer(agent, "user", "root")["uid"] == 0


# -- a command that is listened to ------------------------------------------------------


def heard(agent: Session, *argv: str, seconds: float = 20) -> str:
    return "".join(f"{line}\n" for line in agent.stream(argv, seconds))


def test_a_command_is_heard_whole_whatever_its_letters_and_makes_files_for_all(
    locked: Session,
) -> None:
    # Of a pipe's pieces many end within such a letter.
    euros = "\u20ac" * 100_000
    printed = heard(locked, sys.executable, "-c", "print('\u20ac' * 100_000)")
    assert printed == f"{euros}\n"
    assert heard(locked, "/bin/sh", "-c", "umask") == "0022\n"


def test_a_command_that_closes_its_output_is_waited_for_and_stopped_in_time(
    locked: Session,
) -> None:
    closed = "exec >&- 2>&-; sleep"
    running = locked.stream(["/bin/sh", "-c", f"{closed} 0.2; exit 3"], 20)
    assert "".join(running) == ""
    assert running.status == 3
    with pytest.raises(HostFailed, match=r"it did not end within 0\.2 s"):
        heard(locked, "/bin/sh", "-c", f"{closed} 60", seconds=0.2)


def test_what_is_left_of_a_user_is_found(agent: Session, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own").touch()
    os.chown(tmp_path / "deep" / "own", nobody.pw_uid, 0)
    with subprocess.Popen(["sleep", "60"], user="nobody") as process:
        try:
            found = answer(agent, "traces", "nobody", str(tmp_path), "/nowhere")
        finally:
            process.kill()
    assert found["files"] == [str(tmp_path / "deep" / "own")]
    assert process.pid in [each["pid"] for each in found["processes"]]
    assert answer(agent, "traces", "nobody-at-all", str(tmp_path)) is None


@pytest.mark.parametrize("setting", ["Group={}", "SupplementaryGroups=daemon {} audio"])
def test_a_unit_file_that_needs_the_group_of_a_user_is_found(agent: Session, setting: str) -> None:
    name = grp.getgrgid(os.getgid()).gr_name  # root: a user with a group of its name
    unit = Path("/etc/systemd/system/gearman-py-test.service")
    if os.geteuid() != 0:
        pytest.skip("it writes a unit file, which takes root")
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(f"[Service]\n{setting.format(name)}\n")
    try:
        found = answer(agent, "traces", name, "/nowhere")
    finally:
        unit.unlink()
    assert str(unit) in found["group"]
    assert str(unit) not in found["units"]
