"""Compares two pictures of a page, as a person would: what is moved or missing is seen.

How Chromium smooths letters changes with its version, and is not. So the mean colors of small
squares are compared, each with those that are a pixel beside it too.
"""

from itertools import product
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

SQUARE = 8  # pixels
# Chromium 147 and 156 differ in no square by this; a link of the bar that is missing, in six.
TOLERANCE = 32  # of 255, of a square's mean red, green or blue
MOST = 4  # squares that may differ


def differing_squares(one: Image.Image, other: Image.Image) -> list[tuple[int, int]]:
    """The upper left corners of the squares that differ, in pixels; of what one has alone too."""
    size = tuple(
        -(-max(lengths) // SQUARE) * SQUARE for lengths in zip(one.size, other.size, strict=True)
    )
    expected, drawn = (_on_canvas(each, size) for each in (one, other))
    small = expected.reduce(SQUARE)
    found = Image.new("L", small.size, 255)
    for x, y in product((0, -1, 1), repeat=2):
        shifted = ImageChops.offset(drawn, x, y).reduce(SQUARE)
        red, green, blue = ImageChops.difference(small, shifted).split()
        worst = ImageChops.lighter(ImageChops.lighter(red, green), blue)
        found = ImageChops.darker(found, worst)
    width, pixels = found.width, found.tobytes()
    return [
        (number % width * SQUARE, number // width * SQUARE)
        for number, difference in enumerate(pixels)
        if difference > TOLERANCE
    ]


def _on_canvas(picture: Image.Image, size: tuple[int, ...]) -> Image.Image:
    canvas = Image.new("RGB", (size[0], size[1]), "magenta")
    canvas.paste(picture)
    return canvas


def draw_difference(
    one: Image.Image, other: Image.Image, squares: list[tuple[int, int]], path: Path
) -> None:
    """Save both pictures side by side, with the squares that differ framed in the second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    both = Image.new("RGB", (one.width + 16 + other.width, max(one.height, other.height)), "gray")
    both.paste(one)
    both.paste(other, (one.width + 16, 0))
    pen = ImageDraw.Draw(both)
    for x, y in squares:
        left = one.width + 16 + x
        pen.rectangle((left - 1, y - 1, left + SQUARE, y + SQUARE), outline="red")
    both.save(path)
