"""A job for each bundled function and for a ping, small, and what its answer should be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

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
                small.load()
                size = small.size
        except OSError as error:
            return f"what came back is not a whole JPEG: {error}"
        return None if size == (width, height) else f"a JPEG of {size[0]}x{size[1]} came back"

    return judge


def expect_equal(expected: bytes) -> Judge:
    """Judges just this to be right."""

    def judge(answer: bytes) -> str | None:
        return None if answer == expected else f"expected {expected[:80]!r}, got {answer[:80]!r}"

    return judge


def stated_sample(check: Mapping[str, str]) -> Sample:
    """The job of a worker's ``check``, of which an inventory says the answer."""

    def part(text: str, file: str) -> bytes:
        return Path(check[file]).read_bytes() if file in check else check.get(text, "").encode()

    def judge(answer: bytes) -> str | None:
        return expect_equal(part("expect", "expect_file"))(answer)

    return Sample(lambda: part("workload", "file"), judge)


PING = Sample(lambda: b"are you there?", expect_equal(b"are you there?"))
SAMPLES = {
    "reverse": Sample(lambda: b"Hello World!", expect_equal(b"!dlroW olleH")),
    "wc": Sample(lambda: b"one\ntwo\n", expect_equal(b"2\n")),
    "resize": Sample(cache(lambda: make_picture(8, 1200)), is_jpeg(4, 600)),
}
