"""Blocking and awaiting classes have the same methods, with the same parameters and defaults."""

import inspect
from typing import Any

import pytest

from gearman_py import AdminClient, AsyncAdminClient, AsyncClient, AsyncJob, Client, Job

TWINS = [(Client, AsyncClient), (Job, AsyncJob), (AdminClient, AsyncAdminClient)]


def _methods(kind: type) -> dict[str, Any]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_")}


def _parameters(method: Any) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(method).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters]


@pytest.mark.parametrize(("blocking", "awaiting"), TWINS)
def test_twins_have_the_same_methods(blocking: type, awaiting: type) -> None:
    expected, given = _methods(blocking), _methods(awaiting)
    assert given.keys() == expected.keys()
    for name, method in expected.items():
        assert _parameters(given[name]) == _parameters(method), name
    assert _parameters(awaiting) == _parameters(blocking)
