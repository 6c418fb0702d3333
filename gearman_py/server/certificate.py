"""The certificate of the server, which may be renewed while it runs."""

import logging
import ssl

from gearman_py.net.renewal import watch_files
from gearman_py.net.tls import TLSError
from gearman_py.server.settings import Settings

log = logging.getLogger("gearmand")


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
    await watch_files(files, lambda: reload_certificate(settings, tls))
