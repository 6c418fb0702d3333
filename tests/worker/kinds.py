"""The three ways in which a worker runs a function."""

from typing import Any

from gearman_py import Worker


def serve(worker: Worker, kind: str, function: Any, **options: Any) -> None:
    """Add a plain function, or an async one that does the same."""
    if kind == "async":

        async def awaited(argument: Any) -> Any:
            return function(argument)

        worker.add_function("f", awaited, **options)
    else:
        worker.add_function("f", function, **options)
