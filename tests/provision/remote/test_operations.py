"""The catalogue of operations and questions, and who must agree with it."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from provision.agent import (  # noqa: F401  these add operations
    app,
    change,
    leaving,
    program_trial,
    programs,
    queue_trial,
    set_schedules,
    trial,
)
from provision.agent.probe import Batch
from provision.agent.survey import Survey
from provision.remote.messages import Operation
from provision.remote.operations import OPERATIONS
from provision.remote.questions import QUESTIONS, SURVEY, check_question
from tests.provision.fake_host import FakeHost

GIVEN = {"link", "content", "while_", "operation", "_", "self"}
# By whom the fake host is not asked: doctor and firewall, whose tests have answers of their own.
NOT_FAKED = {*SURVEY, "table"}


def takes(function: Callable[..., Any], known: tuple[str, ...]) -> bool:
    """Whether a function takes just these arguments; ``**attributes`` may stand for several."""
    found = inspect.signature(function).parameters.values()
    named = [each.name for each in found if each.name not in GIVEN and "VAR" not in each.kind.name]
    several = any(each.kind is each.VAR_KEYWORD for each in found)
    return set(named) <= set(known) if several else set(named) == set(known)


def asks(function: Callable[..., Any], known: tuple[str, ...]) -> bool:
    """Whether a function takes these arguments, in this order."""
    found = list(inspect.signature(function).parameters.values())
    told = [f"*{each.name}" if each.kind is each.VAR_POSITIONAL else each.name for each in found]
    return tuple(told[1:]) == known


def test_the_agent_carries_out_what_the_catalogue_has_and_nothing_else() -> None:
    assert change.OPERATIONS.keys() == OPERATIONS.keys()
    wrong = [
        kind
        for kind, known in OPERATIONS.items()
        if not takes(change.OPERATIONS[kind], known.arguments)
    ]
    assert wrong == []


def test_the_agent_answers_what_the_catalogue_has_and_nothing_else() -> None:
    for agent, known in ((Batch, QUESTIONS.keys() - SURVEY.keys()), (Survey, QUESTIONS.keys())):
        assert {name[4:] for name in dir(agent) if name.startswith("ask_")} == known
    wrong = [
        kind
        for kind, known in QUESTIONS.items()
        if not asks(getattr(Survey, f"ask_{kind}"), known.arguments)
    ]
    assert wrong == []


def test_the_fake_host_is_held_to_the_catalogue() -> None:
    """It knows what roles ask and do: their golden plans need the rest of it."""
    done = {name[4:] for name in dir(FakeHost) if name.startswith("_do_")}
    proofs = {"job", "trial", "trial_program", "trial_queue", "check_functions", "look"}
    assert done <= OPERATIONS.keys() - proofs
    assert [
        k for k in done if not takes(getattr(FakeHost, f"_do_{k}"), OPERATIONS[k].arguments)
    ] == []
    asked = {name[5:] for name in dir(FakeHost) if name.startswith("_ask_")}
    assert asked <= QUESTIONS.keys() - NOT_FAKED


@pytest.mark.parametrize(
    ("kind", "arguments", "content", "problem"),
    [
        ("fly", {}, None, "unknown operation 'fly'; expected one of packages, "),
        ("link", {"path": "/a"}, None, "operation link takes path, target; given: path"),
        ("link", {"path": "/a", "target": "b", "mode": "1"}, None, "given: path, target, mode"),
        ("condemn", {"root": "/", "id": "1"}, None, "operation condemn takes content"),
        ("remove", {"path": "/a"}, b"", "operation remove takes no content"),
    ],
)
def test_an_operation_that_no_agent_knows_cannot_be_made(
    kind: str, arguments: dict[str, Any], content: bytes | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Operation(kind, arguments, content)


@pytest.mark.parametrize("question", [("weather",), ("path", "/a"), ("host", "x"), ("traces",)])
def test_a_question_that_no_agent_knows_is_refused(question: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="question"):
        check_question(question)


def test_every_operation_has_its_shell_line() -> None:
    values: dict[str, Any] = {
        "names": ["a"],
        "groups": ["g"],
        "enabled": None,
        "commands": [["id"]],
    }
    values |= {"worker": ["w"], "command": ["c"], "action": "start"}
    values |= {"server": ["s"], "program": ["p"]}
    for kind, known in OPERATIONS.items():
        arguments = {name: values.get(name, name) for name in known.arguments}
        assert Operation(kind, arguments, b"" if known.content else None).shell_line
