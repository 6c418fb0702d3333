"""Fetches a page on a host, with nothing but the host's Python: to see that it is served there.

The program is sent as standard input of ``python -``, so it needs no release.
"""

FETCH_TIMEOUT = 20.0  # seconds

PROGRAM = b"""\
import os, ssl, sys, urllib.request
url, *more = sys.argv[1:]
handlers = [urllib.request.ProxyHandler({})]
if url.startswith("https:"):
    context = ssl.create_default_context(cafile=os.environ.get("GEARMAND_CA_CERTIFICATE"))
    pair = [os.environ.get(name) for name in ("GEARMAN_CLIENT_PEM", "GEARMAN_CLIENT_KEY")]
    if all(pair):
        context.load_cert_chain(*pair)
    handlers.append(urllib.request.HTTPSHandler(context=context))
try:
    with urllib.request.build_opener(*handlers).open(url, timeout=20) as answer:
        sys.stdout.buffer.write(answer.read())
except (OSError, ValueError) as error:
    sys.exit(f"{url}: {error}")
"""
"""Its argument is the URL. Its files for TLS are those that /etc/gearman/environment names."""


def not_a_page(title: str, content: bytes) -> str | None:
    """What is wrong with a page whose title should hold this; None: nothing."""
    text = content.decode(errors="replace")
    if "</html>" in text and title in text.partition("<title>")[2].partition("</title>")[0]:
        return None
    return f"expected a page {title!r}, got {text[:80]!r}"
