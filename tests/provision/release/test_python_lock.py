"""What a lock says for a kind of host: packages, their hashes; and each mistake with its line."""

import os
from pathlib import Path

import pytest

from provision.errors import HostFailed, ToolkitError
from provision.release.python_lock import find_lock, read_lock
from provision.release.target import Target

OLD = Target((3, 11), "x86_64", (2, 36))
NEW = Target((3, 13), "aarch64", (2, 41))
A, B = "a" * 64, "b" * 64
REQUIREMENTS = f"""\
# made by hand
--index-url https://pypi.example.org/simple   # ours
-e .
flask[async]==3.1.0 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
tomli==2.0 ; python_full_version < "3.12" --hash=sha256:{A}
async_timeout==5.0.1 ; python_full_version < '3.11.3' --hash=sha256:{A}
only.arm==1 ; platform_machine == "aarch64" and sys_platform == "linux" --hash=sha256:{A}
pywin32==300 ; sys_platform == "win32" --hash=sha256:{A}
gearman_py
"""
PYLOCK = f"""
lock-version = "1.0"
created-by = "a test"
[[packages]]
name = "flask"
version = "3.1.0"
wheels = [{{url = "https://e.org/flask-3.1.0-py3-none-any.whl", hashes = {{sha256 = "{A}"}}}}]
[packages.sdist]
url = "https://e.org/flask-3.1.0.tar.gz"
hashes = {{sha256 = "{B}", md5 = "c"}}
[[packages]]
name = "tomli"
version = "2.0"
marker = "python_version < '3.12'"
wheels = [{{url = "https://e.org/tomli-2.0-py3-none-any.whl", hashes = {{sha256 = "{A}"}}}}]
[[packages]]
name = "fast"
version = "1.0"
marker = "platform_machine == 'x86_64'"
[[packages.wheels]]
url = "https://e.org/fast-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
hashes = {{sha256 = "{A}"}}
[[packages]]
name = "shop"
directory = {{path = "."}}
"""


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def pins(lock: Path, target: Target) -> dict[str, str]:
    return {each.name: each.version for each in read_lock(lock, target).packages}


def test_requirements_are_those_of_the_host_and_not_of_this_machine(tmp_path: Path) -> None:
    lock = write(tmp_path, "requirements.txt", REQUIREMENTS)
    assert pins(lock, OLD) == {"flask": "3.1.0", "tomli": "2.0", "async-timeout": "5.0.1"}
    assert pins(lock, NEW) == {"flask": "3.1.0", "only-arm": "1"}
    found = read_lock(lock, NEW)
    assert str(found).splitlines()[:2] == [
        "--index-url https://pypi.example.org/simple",
        f"flask==3.1.0 --hash=sha256:{A} --hash=sha256:{B}",
    ]


def test_pylock_is_read_for_the_host(tmp_path: Path) -> None:
    lock = write(tmp_path, "pylock.toml", PYLOCK)
    assert pins(lock, OLD) == {"flask": "3.1.0", "tomli": "2.0", "fast": "1.0"}
    assert pins(lock, NEW) == {"flask": "3.1.0"}
    assert f"--hash=sha256:{A} --hash=sha256:{B}\n" in str(read_lock(lock, NEW))
    with pytest.raises(HostFailed, match=r"for Python 3\.13 on x86_64 .*'fast'"):
        read_lock(lock, Target((3, 13), "x86_64", (2, 41)))


def test_a_lock_of_uv_is_exported(tmp_path: Path) -> None:
    project = "[project]\nname = 'shop'\nversion = '1'\nrequires-python = '>=3.11'\n"
    write(tmp_path, "pyproject.toml", project)
    text = "version = 1\nrevision = 3\nrequires-python = '>=3.11'\n"
    lock = write(
        tmp_path,
        "uv.lock",
        f"{text}[[package]]\nname = 'shop'\nversion = '1'\nsource = {{ virtual = '.' }}\n",
    )
    assert find_lock(tmp_path) == lock
    assert pins(lock, OLD) == {}
    lock.write_text("version = one")
    with pytest.raises(ToolkitError, match=r"uv\.lock: `uv export` failed: "):
        read_lock(lock, OLD)


def test_a_tool_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = write(tmp_path, "poetry.lock", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolkitError, match=r"poetry\.lock: poetry is not installed here"):
        read_lock(lock, OLD)


def test_poetry_without_its_export_plugin_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = write(tmp_path, "poetry.lock", "")
    poetry = tmp_path / "poetry"
    said = "\nThe requested command export does not exist.\n\nDocumentation: https://..."
    poetry.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    poetry.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ToolkitError, match=r"`poetry export` failed: it takes poetry-plugin-exp"):
        read_lock(lock, OLD)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("requirements.txt", "\nflask==3", "requirements.txt:2: flask has no hash: `./invoke "),
        ("requirements.txt", f"flask --hash=sha256:{A}", ":1: flask has no exact version: `./inv"),
        ("requirements.txt", f"flask>=3 --hash=sha256:{A}", ":1: flask has no exact version"),
        ("requirements.txt", "-e ../lib", ":1: `-e ../lib` cannot be checked by a hash: leave it"),
        ("requirements.txt", "a b c", ":1: Expected "),
        ("pylock.toml", "lock-version = '9.0'", "pylock.toml: "),
        ("pylock.toml", "][", "pylock.toml: "),
        (
            "pylock.toml",
            PYLOCK + "[[packages]]\nname = 'lib'\n[packages.vcs]\ntype = 'git'\n"
            "url = 'https://e.org'\ncommit-id = 'c'\n",
            "lib does not come from an index: build its wheel",
        ),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, name: str, text: str, message: str) -> None:
    lock = write(tmp_path, name, text)
    with pytest.raises(ToolkitError) as raised:
        read_lock(lock, OLD)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
