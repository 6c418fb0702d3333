"""A plan is pure, ordered by what resources need, and mends any host it is applied to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision import plan
from provision.errors import ToolkitError
from provision.release.build import Artifact
from provision.remote.messages import Operation, Unknown
from provision.resources.account import Group, User
from provision.resources.base import Problem, Resource
from provision.resources.certificate import AuthorityFile
from provision.resources.files import Directory, File, Link
from provision.resources.former_units import FormerUnits
from provision.resources.packages import Packages
from provision.resources.release import Release
from provision.resources.unit import FOLDER, Unit, UnitFile
from tests.provision.fake_host import FakeHost, directory, file, link

ROOT = "/opt/gearman"


def artifact(id: str) -> Artifact:
    return Artifact(id, digest=id, size=1000, path=Path(id))


def unit_file(name: str, config: str) -> UnitFile:
    lines = ("# Made by the deploy.", f"ExecStart={ROOT}/current/venv/bin/app")
    text = "\n".join((*lines, f"Environment=GEARMAN_CONFIG={config}", ""))
    return UnitFile(f"{FOLDER}/{name}", content=text.encode(), config=config)


def site(version: str = "2", config: str = "new", served: bool = True) -> list[Resource]:
    """A host like ours, declared in an order that nothing could be applied in."""
    release = Release(ROOT, artifact(version))
    worker = unit_file("worker@.service", config)
    server = unit_file("server.service", config)
    return [
        Unit("server.service", server, release.current),
        FormerUnits(
            "worker@*.service", ("worker@wc.service",) if served else (), ("worker@.service",)
        ),
        *([Unit("worker@wc.service", worker, release.current)] if served else []),
        Link("/usr/local/bin/tool", f"{ROOT}/current/bin/tool"),
        File("/etc/app/app.conf", owner="app", group="app", mode="0640", content=b"a = 1\n"),
        Directory("/etc/app", owner="app", group="app", mode="0750"),
        server,
        worker,
        release.current,
        release,
        Directory(f"{ROOT}/releases"),
        Directory(ROOT),
        User("app", group="app"),
        Group("app"),
        Packages(("tool",)),
    ]


def plan_for(host: FakeHost, resources: list[Resource]) -> plan.Plan:
    return plan.make_plan(resources, host.answer(plan.questions_of(resources)))


def operations(host: FakeHost, resources: list[Resource]) -> list[Operation]:
    return [change.operation for change in plan_for(host, resources).changes]


def assert_converges(host: FakeHost, resources: list[Resource]) -> None:
    host.apply(operations(host, resources))
    assert plan_for(host, resources).changes == ()


def test_bare_host_becomes_as_wanted_and_then_needs_nothing() -> None:
    host = FakeHost()
    assert_converges(host, site())
    assert host.processes["server.service"] == {
        "program": f"{ROOT}/releases/2/venv/bin/python",
        "config": "new",
        "reload_key": None,
        "user": None,
    }


def test_making_a_plan_changes_nothing() -> None:
    host, untouched = FakeHost(), FakeHost()
    plan_for(host, site())
    assert host == untouched


@pytest.mark.parametrize("done", range(18))
def test_a_run_interrupted_after_any_operation_is_resumed_by_the_next(done: int) -> None:
    host = FakeHost()
    assert_converges(host, site("1", "old"))
    host.apply(operations(host, site())[:done])
    assert_converges(host, site())
    assert {process["config"] for process in host.processes.values()} == {"new"}


PATHS = ["/etc/app", "/etc/app/app.conf", f"{FOLDER}/server.service", f"{ROOT}/current", ROOT]
UNITS = ["server.service", "worker@wc.service"]


@st.composite
def spoilt_hosts(draw: st.DrawFn) -> FakeHost:
    """A host left by some older deploy, maybe a half one, and then spoilt by hand."""
    host = FakeHost()
    before = site(draw(st.sampled_from("12")), draw(st.sampled_from(["old", "new"])))
    some = operations(host, before)
    host.apply(some[: draw(st.integers(0, len(some)))])
    for path in draw(st.sets(st.sampled_from(PATHS))) & host.paths.keys():
        host.paths[path] = {
            "directory": directory(mode=draw(st.sampled_from(["0700", "0777"]))),
            "file": draw(st.sampled_from([file(b"spoilt\n"), file(b"a = 1\n"), link("/")])),
            "link": draw(st.sampled_from([file(b""), link("releases/gone")])),
        }[host.paths[path]["kind"]]
    for unit in draw(st.sets(st.sampled_from(UNITS))):
        host.processes.pop(unit, None)
        host.enabled.discard(unit)
    if "app" in host.users and draw(st.booleans()):
        host.users["app"] |= {"shell": "/bin/bash", "home": "/home/app"}
    return host


@given(spoilt_hosts(), st.booleans())
def test_whatever_the_host_is_like_one_plan_mends_it(host: FakeHost, served: bool) -> None:
    resources = site(served=served)
    assert_converges(host, resources)
    assert ("worker@wc.service" in host.processes) == served
    assert ("worker@wc.service" in host.enabled) == served


def test_what_is_needed_comes_first_and_otherwise_the_given_order_stays() -> None:
    group, user = Group("app"), User("app", group="app")
    folder = Directory("/etc/app", owner="app", group="app")
    conf, link = File("/etc/app/conf"), Link("/etc/conf", "app/conf")
    other = Packages(("tool",))
    assert plan.order_resources([other, link, conf, user, folder, group]) == [
        *(other, group, user, folder, conf, link)
    ]


def test_all_releases_are_staged_before_anything_that_is_in_use_changes() -> None:
    """Else a worker on trial would lack the release of its app."""
    own = Release("/opt", artifact("1-own"))
    app = Release("/opt/apps/shop", artifact("shop-1"))
    folders = [Directory(f"/opt{each}") for each in ("/apps", "/apps/shop", "/apps/shop/releases")]
    wanted = [Directory("/opt/releases"), own, own.current, *folders, app, app.current]
    made = plan_for(FakeHost(), wanted)
    assert [each.operation.kind for each in made.changes] == [
        *("directory", "release", *("directory",) * 3, "release", "link", "link"),
    ]
    assert made.staged == 6


def test_files_that_a_trial_needs_are_staged_if_they_are_new() -> None:
    account, folder = User("app", group="app", groups=("keys",)), Directory("/etc/app")
    authority = AuthorityFile("/etc/app/ca", content=b"ca")
    wanted = [
        Group("app"),
        Group("keys"),
        account,
        folder,
        Link("/etc/conf", "app/conf"),
        authority,
    ]
    host = FakeHost()
    made = plan_for(host, wanted)
    assert made.staged == len(made.changes) - 1, "the link is last"
    assert [each.summary for each in made.changes][-3:] == [
        *("directory /etc/app", "file /etc/app/ca", "link /etc/conf"),
    ]
    host.apply([each.operation for each in made.changes])
    host.users["app"]["groups"] = []
    host.paths["/etc/app/ca"]["content"] = b"of another authority"
    made = plan_for(host, wanted)
    assert [each.summary for each in made.changes] == ["user app", "file /etc/app/ca"]
    assert made.staged == 1, "what is in use is not touched"


def test_the_same_resource_of_two_roles_is_one() -> None:
    assert plan.order_resources([Group("app"), Group("app")]) == [Group("app")]


def test_two_roles_that_contradict_are_refused() -> None:
    with pytest.raises(ToolkitError, match="want different things of path /etc/motd"):
        plan.order_resources([File("/etc/motd", content=b"a"), File("/etc/motd", content=b"b")])


def test_links_that_need_each_other_are_refused() -> None:
    with pytest.raises(ToolkitError, match="need each other: path:/a -> path:/b -> path:/a"):
        plan.order_resources([Link("/a", "/b"), Link("/b", "/a")])


def test_an_answer_that_could_not_be_had_is_a_problem_never_absence() -> None:
    made = plan.make_plan([Group("app")], {("group", "app"): Unknown("permission denied")})
    assert made.problems == (Problem("group app: permission denied", "?"),)
    assert made.changes == ()


def test_systemd_reads_its_files_again_once_and_before_a_unit_starts() -> None:
    one, other = (unit_file(f"{name}.service", "new") for name in ("one", "other"))
    current = Link(f"{ROOT}/current", "releases/2")
    resources = [one, other, Unit("one.service", one, current)]
    kinds = [operation.kind for operation in operations(FakeHost(), resources)]
    assert kinds == ["file", "file", "daemon_reload", "unit"]


def test_a_unit_file_written_but_never_read_is_read() -> None:
    host = FakeHost()
    assert_converges(host, site("2", "old"))
    new = unit_file("server.service", "new")
    host.paths[new.path] = file(new.content)
    resources = [each for each in site() if "worker" not in str(each)]
    assert [change.summary for change in plan_for(host, resources).changes] == [
        "daemon-reload",
        "restart server.service",
    ]
