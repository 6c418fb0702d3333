"""For commands that tell the outcome themselves: events are not shown."""

from provision.errors import ToolkitError
from provision.report.events import Event


class QuietReport:
    """Shows nothing."""

    def show(self, event: Event) -> None:
        pass

    def recap(self, seconds: float) -> None:
        pass

    def end(self, seconds: float, *, limit: bool = True) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def silence(self, *lines: str) -> None:
        pass

    def confirm(self, question: str) -> bool:
        raise ToolkitError(f"{question} It cannot be asked here")
