"""Forty things to be called that mean something to a terminal, a log or a reader of listings.

What they may not do is asked of every door that shows what others chose (S3).
"""

import re

STRINGS = (
    # Readers of rows: more rows than there are, an early end, another answer, other columns.
    b"a\nforged\t9\t9\t9",
    b"a\r\nforged\t9\t9\t9\r\n",
    b"a\rforged\t9\t9\t9",
    b".",
    b"\n.\n",
    b"..",
    b"a\n.\nOK\r\nforged",
    b"OK forged",
    b"ERR forged forged\r\n",
    b"a\t9\t9\t9",
    b"a : forged",
    b" - : forged",
    b"a\x0bforged\x0cforged",
    b"a\xc2\x85forged",
    b"a\xe2\x80\xa8forged\xe2\x80\xa9forged",
    b"a\x1c\x1d\x1eforged",
    # Readers of logs, systemd among them.
    b"a\n2026-11-24 00:00:00,000 CRITICAL forged",
    b"a\nCRITICAL forged",
    b"a\n<0>forged",
    b"<0>forged",
    b"a\nNov 24 00:00:00 host sshd[1]: forged",
    b"%s%s%n%d%(asctime)s",
    b"{0.__class__.__init__.__globals__}",
    b"${jndi:ldap://forged/a}",
    # Terminals: clear, title, clipboard, a question that is answered by typing, colours.
    b"\x1b[2J\x1b[H",
    b"\x1b]0;forged\x07",
    b"\x1b]52;c;Zm9yZ2Vk\x07",
    b'\x1b[6n\x1bP$q"p\x1b\\',
    b"\x9b2J\x9d0;forged\x9c",
    b"\xc2\x9b2J\xc2\x9d0;forged\xc2\x9c",
    b"a\x08\x08forged",
    b"\x05\x07\x0e\x0f",
    b"\x7f\x7f\x1a\x04",
    b"\xe2\x80\xaedegrof",  # from right to left
    b"\xe2\x81\xa6\xe2\x80\x8b\xef\xbb\xbf",  # isolated, nothing wide
    b"\xf3\xa0\x81\xa6\xf3\xa0\x81\xaf",  # tags, which nobody sees
    # Shells and browsers that someone copies it to.
    b"$(touch forged)`touch forged`",
    b"; touch forged #",
    b"<script>alert('forged')</script>",
    b"\"><img src=x onerror=alert('forged')>",
)
assert len(STRINGS) == 40


def harmless(said: bytes, keep: bytes = b"\n\t") -> bool:
    """Whether it can be shown: no character that a terminal obeys, and none that hides."""
    text = said.decode(errors="surrogateescape")
    wrong = [
        c for c in text if not c.isprintable() and ord(c) > 0xFF and not "\udca0" <= c <= "\udcff"
    ]
    return not wrong and not re.search(rb"[\x00-\x1f\x7f]", said.translate(None, keep))
