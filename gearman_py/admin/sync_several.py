# Written by tests/twins.py from aio_several.py; change that one.
"""What the methods of an AdminClient do with several job servers.

A method is written for one server. Its decorator says who is asked if there are several, each
through its own client in ``members``.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeGuard, TypeVar

from gearman_py.admin.answers import is_unknown_command
from gearman_py.admin.function_detail import FunctionDetail, join_details
from gearman_py.admin.sync_connection import ask_at_once
from gearman_py.admin.sync_link import ServerLink
from gearman_py.errors import AdminError, GearmanError, JobTimeout, ServerUnavailable

P = ParamSpec("P")
T = TypeVar("T")
L = TypeVar("L", bound=ServerLink)
UNKNOWN = ("UNKNOWN_JOB", "UNKNOWN_FUNCTION", "UNKNOWN_SCHEDULE", "function not found")


def ask_all(
    method: Callable[Concatenate[L, P], list[T]],
) -> Callable[Concatenate[L, P], list[T]]:
    """The rows of all servers that answer, in the order of the servers.

    One that does not know the command, as C gearmand does not know ours, is passed over too.
    """

    @wraps(method)
    def ask(link: L, /, *args: P.args, **named: P.kwargs) -> list[T]:
        if not link.members:
            return method(link, *args, **named)
        answers = ask_members(link.members, lambda member: method(member, *args, **named))
        able = any(isinstance(answer, list) for answer in answers)
        link.passed_over = find_silent(link.members, answers)
        for member, answer in zip(link.members, answers, strict=True):
            if isinstance(answer, AdminError):
                if not (able and is_unknown_command(answer)):
                    raise answer
                link.passed_over.append((str(member.server), "it does not know this command"))
        if len(link.passed_over) == len(answers):
            raise ServerUnavailable(link.passed_over)
        return _join_rows(answers)

    return ask


def join_all(
    method: Callable[Concatenate[L, P], FunctionDetail],
) -> Callable[Concatenate[L, P], FunctionDetail]:
    """What the servers that know a function say, together."""

    @wraps(method)
    def ask(link: L, /, *args: P.args, **named: P.kwargs) -> FunctionDetail:
        if not link.members:
            return method(link, *args, **named)
        answers = ask_members(link.members, lambda member: method(member, *args, **named))
        found = [answer for answer in answers if isinstance(answer, FunctionDetail)]
        link.passed_over = find_silent(link.members, answers)
        if not found:
            _check_changed(link, answers)
        return join_details(found)

    return ask


def change_all(
    method: Callable[Concatenate[L, P], None],
) -> Callable[Concatenate[L, P], None]:
    """A change at all servers. Raises an error unless all made it."""

    @wraps(method)
    def change(link: L, /, *args: P.args, **named: P.kwargs) -> None:
        if not link.members:
            method(link, *args, **named)
            return
        answers = ask_members(link.members, lambda member: method(member, *args, **named))
        _check_changed(link, answers)

    return change


def change_jobs(
    method: Callable[Concatenate[L, P], list[str]],
) -> Callable[Concatenate[L, P], list[str]]:
    """A change at all servers, of jobs, whose handles are returned."""

    @wraps(method)
    def change(link: L, /, *args: P.args, **named: P.kwargs) -> list[str]:
        if not link.members:
            return method(link, *args, **named)
        answers = ask_members(link.members, lambda member: method(member, *args, **named))
        _check_changed(link, answers)
        return _join_rows(answers)

    return change


def change_owners(
    method: Callable[Concatenate[L, P], None],
) -> Callable[Concatenate[L, P], None]:
    """A change at all servers that know what it is about. Raises an error if one is silent."""

    @wraps(method)
    def change(link: L, /, *args: P.args, **named: P.kwargs) -> None:
        if not link.members:
            method(link, *args, **named)
            return
        answers = ask_members(link.members, lambda member: method(member, *args, **named))
        unknown = [answer for answer in answers if is_unknown(answer) or is_unknown_command(answer)]
        if len(unknown) == len(answers):
            raise join_unknown(unknown)
        for answer in answers:
            if isinstance(answer, AdminError) and answer not in unknown:
                raise answer
        done = [member for member, answer in zip(link.members, answers, strict=True) if not answer]
        link.passed_over = find_silent(link.members, answers)
        if link.passed_over:
            others = f"done at {len(done)}" if done else f"it is unknown at {len(unknown)}"
            raise ServerUnavailable(link.passed_over, others if done or unknown else "")
        link.server = done[0].server

    return change


def find_owner(
    method: Callable[Concatenate[L, P], T],
) -> Callable[Concatenate[L, P], T]:
    """One server after the other, until one knows the job; ``server`` is that one."""

    @wraps(method)
    def ask(link: L, /, *args: P.args, **named: P.kwargs) -> T:
        if not link.members:
            return method(link, *args, **named)
        unknown: list[AdminError] = []
        link.passed_over = []
        for member in link.members:
            try:
                answer = method(member, *args, **named)
            except GearmanError as error:
                if is_unknown(error) or is_unknown_command(error):
                    unknown.append(error)
                elif why := _why_silent(member, error):
                    link.passed_over.append((str(member.server), why))
                else:
                    raise
            else:
                link.server = member.server
                return answer
        if link.passed_over:
            raise ServerUnavailable(link.passed_over, f"it is unknown at {len(unknown)}")
        raise join_unknown(unknown)

    return ask


def first_able(
    method: Callable[Concatenate[L, P], T],
) -> Callable[Concatenate[L, P], T]:
    """The first server that knows the command and has what it takes; ``server`` is that one."""

    @wraps(method)
    def ask(link: L, /, *args: P.args, **named: P.kwargs) -> T:
        unable: list[AdminError] = []
        for member in link.members or (link,):
            try:
                answer = method(member, *args, **named)
            except AdminError as error:
                if not (is_unknown_command(error) or "NO_SCHEDULES" in str(error)):
                    raise
                unable.append(error)
            else:
                link.server = member.server
                return answer
        why = "; ".join(map(str, unable))
        raise AdminError(f"schedules need a job server of gearman_py with cronsim: {why}")

    return ask


def ask_members(members: Sequence[L], ask: Callable[[L], T]) -> list[T | GearmanError]:
    """Ask all at once; return the answer or the error of each."""

    def ask_one(member: L) -> T | GearmanError:
        try:
            return ask(member)
        except GearmanError as error:
            return error

    return ask_at_once(ask_one, members)


def find_silent(members: Sequence[ServerLink], answers: Iterable[object]) -> list[tuple[str, str]]:
    """The servers that did not answer, and why."""
    pairs = zip(members, map(_why_silent, members, answers), strict=True)
    return [(str(member.server), why) for member, why in pairs if why]


def is_unknown(answer: object) -> TypeGuard[AdminError]:
    """Whether a server said that it does not know the job or the function."""
    return isinstance(answer, AdminError) and any(word in str(answer) for word in UNKNOWN)


def join_unknown(errors: Sequence[AdminError]) -> AdminError:
    """What servers said that do not know something, and after them those that cannot be asked."""
    return AdminError("; ".join(map(str, sorted(errors, key=is_unknown_command))))


def _why_silent(member: ServerLink, answer: object) -> str:
    if isinstance(answer, JobTimeout):
        return f"no answer within {member._timeout:g} s"
    if isinstance(answer, ServerUnavailable):
        return answer.attempts[0][1]
    refused = isinstance(answer, AdminError) or not isinstance(answer, GearmanError)
    return "" if refused else str(answer)


def _check_changed(link: ServerLink, answers: Sequence[object]) -> None:
    """Raise an error if a server refused or is silent; one may not know the function."""
    link.passed_over = find_silent(link.members, answers)
    done = sum(not isinstance(answer, GearmanError) for answer in answers)
    for answer in answers:
        if isinstance(answer, AdminError) and not (done and is_unknown(answer)):
            raise answer
    if link.passed_over:
        raise ServerUnavailable(link.passed_over, f"done at {done}" if done else "")


def _join_rows(answers: Iterable[list[T] | GearmanError]) -> list[T]:
    return [row for answer in answers if isinstance(answer, list) for row in answer]
