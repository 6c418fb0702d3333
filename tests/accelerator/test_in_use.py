"""It is used where it is installed and not turned off, and changes nothing but the time."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from packages.accelerator import NAME, build_accelerator, find_compiler, wheel_tag
from tests.accelerator.conftest import ROOT

VERSION = (sys.executable, "-m", "gearman_py.cli.gearmand", "--version")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_gearmand_says_whether_it_is_in_use(built: Path) -> None:
    there = str(built.parent)
    assert run(*VERSION, PYTHONPATH=there).stdout.endswith(" (accelerated)\n")
    assert run(*VERSION, PYTHONPATH=there, GEARMAN_PURE="0").stdout.endswith(" (accelerated)\n")
    assert run(*VERSION, PYTHONPATH=there, GEARMAN_PURE="1").stdout.endswith(" (pure Python)\n")


def test_one_that_cannot_be_used_is_none(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.py").write_text("raise ImportError('for another Python')")
    assert run(*VERSION, PYTHONPATH=str(tmp_path)).stdout.endswith(" (pure Python)\n")


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.timeout(900)  # a file of tests, each of which has its own
@pytest.mark.parametrize(
    "tests",
    [
        "tests/protocol/test_codec.py",
        (
            "tests/broker/test_scheduled_model.py tests/broker/test_rules.py "
            "tests/broker/test_restrictions.py"
        ),
        "tests/server/test_malformed.py",
        "tests/interop/test_conversation.py",
        "tests/fuzz/test_fuzz.py -k codec",
    ],
)
def test_what_holds_without_it_holds_with_it(built: Path, tests: str) -> None:
    """The codec, the broker and its model, malformed packets, C gearmand's answers."""
    options = ("-p", "no:cacheprovider", "--hypothesis-profile=fast")
    done = run(
        sys.executable, "-m", "pytest", *options, *tests.split(), PYTHONPATH=str(built.parent)
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sanitizers_find_nothing() -> None:
    """Addresses and undefined behaviour, for any stream, each failed allocation, any response.

    20 conversations, others each time, reach every line of the C code that 200 do, and 377 of 379
    branches (as gcov counts them). What they come to is compared without sanitizers too.
    """
    flags = "-g -fsanitize=address,undefined -fno-sanitize-recover=all"
    found = subprocess.run(
        [*find_compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip("the C compiler has no libasan")
    done = run(
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:faulthandler"),
        *("--timeout", "900"),  # of each test, as this one has
        "--hypothesis-profile=fast",
        *(
            "-k",
            "not million",
            "tests/accelerator/test_twins.py",
            "tests/accelerator/test_broker.py",
        ),
        ACCELERATOR_FLAGS=flags,
        LD_PRELOAD=found,
        PYTHONMALLOC="malloc",
        ASAN_OPTIONS="detect_leaks=0",  # Python keeps much until its process ends
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_the_same_wherever_it_is_built(built: Path, tmp_path: Path) -> None:
    for name in (
        "gearman_py/_speedups.c",
        "gearman_py/_speedups_broker.c",
        "gearman_py/_speedups.h",
    ):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    again = build_accelerator(tmp_path, tmp_path)
    assert again.read_bytes() == built.read_bytes()


def test_a_wheel_names_the_c_library_that_it_needs(tmp_path: Path) -> None:
    """https://peps.python.org/pep-0600/"""
    module, machine = tmp_path / "module", sysconfig.get_platform().removeprefix("linux-")
    for text, tag in (
        (b"GLIBC_2.2.5\0GLIBC_2.14\0", "manylinux_2_17"),
        (b"GLIBC_2.9\0GLIBC_2.34\0", "manylinux_2_34"),
        (b"libc.musl-x86_64.so.1\0", "linux"),
    ):
        module.write_bytes(text)
        assert wheel_tag(module) == f"cp311-abi3-{tag}_{machine}"


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"GEARMAN_PURE": ""}, {"GEARMAN_PURE": "1"}, {"CC": "false"}])
def test_a_wheel_holds_it_if_it_can_be_built(tmp_path: Path, setting: dict[str, str]) -> None:
    build = (sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    done = run(*build, **setting)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(NAME)]
    assert len(held) == (setting == {"GEARMAN_PURE": ""})
    tag = "cp311-abi3-manylinux_2_17_" if held else "py3-none-any"
    assert f"-{tag}" in wheel.name
    assert ("without its accelerator" in done.stdout + done.stderr) == ("CC" in setting)
