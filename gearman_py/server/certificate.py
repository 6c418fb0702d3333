"""The certificate of the server, which may be renewed while it runs."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Sequence

from gearman_py.net.tls import TLSError
from gearman_py.server.settings import Settings

log = logging.getLogger("gearmand")

CERTIFICATE_INTERVAL = 5.0  # seconds between two checks whether it was renewed


def reload_certificate(settings: Settings, tls: ssl.SSLContext | None) -> bool:
    """Reload certificate and key; return whether they are valid."""
    if settings.tls is None or tls is None:
        return True
    try:
        settings.tls.load(tls)
    except TLSError as error:
        log.error("keeping the certificate in use: %s", error)
        return False
    log.info("new connections use the certificate in %s", settings.ssl_certificate)
    return True


async def watch_certificate(settings: Settings, tls: ssl.SSLContext | None) -> None:
    """Reload the certificate whenever it is renewed."""
    files = (settings.ssl_certificate, settings.ssl_key) if tls else ()
    known = _modification_times(files)
    while files:
        await asyncio.sleep(CERTIFICATE_INTERVAL)
        if (now := _modification_times(files)) != known and reload_certificate(settings, tls):
            known = now


def _modification_times(files: Sequence[str]) -> list[tuple[int, int]]:
    found = []
    for path in files:
        with contextlib.suppress(OSError):  # it is being replaced
            each = os.stat(path)
            found.append((each.st_ino, each.st_mtime_ns))
    return found
