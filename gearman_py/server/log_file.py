"""The log of a job server in a file that others move, as logrotate does."""

import contextlib
import logging
from logging.handlers import WatchedFileHandler


class LogFile(WatchedFileHandler):
    """Goes on in a new file when its own was moved.

    Lines go to stderr while the file cannot be opened, as when its folder is gone: a job server
    does not end by that.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the next line tries again
            instead = logging.StreamHandler()
            instead.setFormatter(self.formatter)
            instead.emit(record)

    def reopen(self) -> None:
        """Open the file again if it was moved, though there is nothing to log."""
        with contextlib.suppress(OSError):
            self.reopenIfNeeded()
