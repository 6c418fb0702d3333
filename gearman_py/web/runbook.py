"""The runbook: docs/alerts.md as a page, so that it can be read where nothing else can be reached.

The wheel has a copy of the file; a checkout is read from where it is.
"""

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

_HERE = Path(__file__).parent
_PLACES = (_HERE / "runbook", _HERE.parents[1] / "docs" / "alerts.md")


class Section(NamedTuple):
    """What to do about an alert."""

    name: str
    body: Markup

    @property
    def anchor(self) -> str:
        return self.name.lower()


def read_runbook() -> list[Section]:
    """Its sections, in their order."""
    text = next(place.read_text() for place in _PLACES if place.exists())
    return [
        Section(name.strip(), Markup(_to_html(body)))  # noqa: S704  it is escaped
        for name, _, body in (part.partition("\n") for part in text.split("\n## ")[1:])
    ]


def _to_html(text: str) -> str:
    """Paragraphs and lists, of which the file consists."""
    blocks = re.split(r"\n{2,}", text.strip())
    return "\n".join(_block_to_html(block) for block in blocks)


def _block_to_html(block: str) -> str:
    items = re.split(r"^(?:\d+\.|-) ", block, flags=re.MULTILINE)
    if items[0].strip() or len(items) == 1:
        return f"<p>{_inline(block)}</p>"
    kind = "ol" if block[0].isdigit() else "ul"
    rows = "".join(f"<li>{_inline(item.strip())}</li>" for item in items[1:])
    return f"<{kind}>{rows}</{kind}>"


def _inline(text: str) -> str:
    text = escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)  # pages that are not here
    return re.sub(r"(?<!\w)\*([^*]+)\*(?!\w)", r"<em>\1</em>", text)
