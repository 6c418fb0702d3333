"""What an operator can do. Each task parses flags, calls one function, returns its exit status."""

from invoke.context import Context
from invoke.tasks import task


@task
def test(c: Context) -> None:
    """Run every check and every test."""
