"""A job for each bundled function and for a ping, small, and what its answer should be."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

CHECK_LIMIT = 200_000  # characters of a check that is kept with a release
EARLIER_CHECKS = 4  # that are kept beside it

Judge = Callable[[bytes], str | None]
"""What is wrong with an answer; None when it is right."""


@dataclass(frozen=True)
class Sample:
    """A job whose answer we know."""

    workload: Callable[[], bytes]
    judge: Judge


def make_picture(width: int, height: int) -> bytes:
    """A JPEG of this size."""
    from PIL import Image

    encoded = BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(encoded, "JPEG")
    return encoded.getvalue()


def is_jpeg(width: int, height: int) -> Judge:
    """Judges a whole JPEG of this size to be right."""

    def judge(answer: bytes) -> str | None:
        from PIL import Image

        try:
            with Image.open(BytesIO(answer), formats=("JPEG",)) as small:
                if small.size != (width, height):
                    return f"a JPEG of {small.size[0]}x{small.size[1]} came back"
                small.load()
        except (OSError, Image.DecompressionBombError) as error:
            return f"what came back is not a whole JPEG: {error}"
        return None

    return judge


def expect_equal(expected: bytes) -> Judge:
    """Judges just this to be right."""

    def judge(answer: bytes) -> str | None:
        return None if answer == expected else f"expected {expected[:80]!r}, got {answer[:80]!r}"

    return judge


def accept_any(answer: bytes) -> str | None:
    """Judges whatever comes back to be right."""
    return None


def stated_sample(check: Mapping[str, str]) -> Sample:
    """The job of a worker's ``check``, of which an inventory says the answer."""

    def judge(answer: bytes) -> str | None:
        return expect_equal(_stated_part(check, "expect", "expect_file"))(answer)

    return Sample(lambda: _stated_part(check, "workload", "file"), judge)


def _stated_part(check: Mapping[str, str], text: str, file: str) -> bytes:
    return Path(check[file]).read_bytes() if file in check else check.get(text, "").encode()


def write_check(function: str, check: Mapping[str, str]) -> bytes:
    """A worker's ``check`` as a text that :func:`read_checks` reads; of a large one, that it is."""
    parts = {
        "workload": _stated_part(check, "workload", "file").decode("latin-1"),
        "expect": _stated_part(check, "expect", "expect_file").decode("latin-1"),
    }
    text = json.dumps({"function": function, **parts}, indent=1)
    return (text if len(text) < CHECK_LIMIT else '{"function": ""}').encode() + b"\n"


def keep_earlier_checks(wanted: str, kept: str) -> str:
    """A check as it is written over others of the same release: they stay in it.

    That the release passes the new one is not known, and a rollback to it has to pass one.
    """
    (new, *_), old = _parse_checks(wanted), _parse_checks(kept)
    if old[0] == new:
        return kept
    earlier = [each for each in old if each != new][:EARLIER_CHECKS]
    text = json.dumps({**new, "earlier": earlier}, indent=1) + "\n"
    return text if len(text) < CHECK_LIMIT else wanted


def earlier_checks(wanted: str, kept: str) -> list[tuple[str, Sample]]:
    """The checks that are kept with a release, or were until it got the one that is wanted."""
    text = keep_earlier_checks(wanted, kept)
    return read_checks(text)[1:] if kept.strip() else []


def read_checks(text: str) -> list[tuple[str, Sample]]:
    """The function and the job of each check that was written, the last one first.

    Of what is none: no function, and a ping.
    """
    return [_read_check(each) for each in _parse_checks(text)]


def _parse_checks(text: str) -> list[Mapping[str, Any]]:
    try:
        last = json.loads(text)
        return [last, *last.pop("earlier", [])]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return [{}]


def _read_check(told: Mapping[str, Any]) -> tuple[str, Sample]:
    try:
        workload, expect = (told[part].encode("latin-1") for part in ("workload", "expect"))
        return str(told["function"]), Sample(lambda: workload, expect_equal(expect))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", PING


PING = Sample(lambda: b"are you there?", expect_equal(b"are you there?"))
SAMPLES = {
    "reverse": Sample(lambda: b"Hello World!", expect_equal(b"!dlroW olleH")),
    "wc": Sample(lambda: b"one\ntwo\n", expect_equal(b"2\n")),
    "resize": Sample(cache(lambda: make_picture(8, 1200)), is_jpeg(4, 600)),
}
