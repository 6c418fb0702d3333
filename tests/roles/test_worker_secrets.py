"""Secrets of workers: what is planned of them, and that no plan tells what they are."""

from io import StringIO
from pathlib import Path

from provision import plan
from provision.inventory.host import Inventory
from provision.remote.messages import Unknown
from provision.report.events import Planned
from provision.report.json import JsonReport
from provision.report.text import Report
from provision.resources.health import WorkerHealth
from provision.resources.unit import UnitFile
from tests.provision.fake_host import FakeHost, file
from tests.roles.test_roles import HOSTS, load, planned, resources

CANARY = "canary-0123"
ANOTHER = "canary-4567"
OWN = f""", gearman_functions: [wc], gearman_workers: {{
          lines: {{command: [cat], functions: [lines], instances: 2, secrets: {{KEY: {CANARY}}}}},
          shout: {{program: [php], functions: [shout], secrets: {{KEY: x, DB.key: {CANARY}}}}}}}"""
FOLDER = "/etc/gearman/secrets"


def inventory_of(folder: Path, own: str = OWN) -> Inventory:
    return load(folder, HOSTS.replace("198.18.10.248", f"198.18.10.248{own}"))


def shown(made: plan.Plan) -> str:
    """A plan as people and programs see it."""
    out = StringIO()
    for report in (Report(["worker"], verbose=True, stream=out), JsonReport(out)):
        report.show(Planned("worker", made))
    return out.getvalue() + "".join(each.operation.shell_line for each in made.changes)


def test_a_worker_finds_its_secrets_as_credentials(tmp_path: Path) -> None:
    wanted = resources(inventory_of(tmp_path), "worker")
    host = FakeHost()
    made = planned(host, wanted)
    host.apply([change.operation for change in made.changes])
    assert planned(host, wanted).changes == ()
    names = ("lines.KEY", "shout.DB.key", "shout.KEY")
    assert host.paths[FOLDER]["mode"] == "0700"
    assert host.paths[f"{FOLDER}/lines.KEY"] == file(CANARY.encode(), mode="0600")
    assert [name for name in names if f"{FOLDER}/{name}" in host.paths] == [*names]

    texts = [each.content.decode() for each in wanted if isinstance(each, UnitFile)]
    lines = sorted(line for text in texts for line in text.split("\n") if "Credential" in line)
    assert lines == [
        f"LoadCredential=DB.key:{FOLDER}/shout.DB.key",
        *[f"LoadCredential=KEY:{FOLDER}/lines.KEY"] * 2,
        f"LoadCredential=KEY:{FOLDER}/shout.KEY",
    ]
    health = next(each for each in wanted if isinstance(each, WorkerHealth) and "cat" in each.trial)
    (trial,) = health.staged_proofs()
    assert f"LoadCredential=KEY:{FOLDER}/lines.KEY" in trial.operation.arguments["properties"]

    # They come before the release, which is tried with them.
    staged = [change.operation.kind for change in made.changes[: made.staged]]
    assert staged.count("secret") == 3
    assert staged[-1] == "release"


def test_a_changed_secret_restarts_its_workers_alone_and_is_not_shown(tmp_path: Path) -> None:
    host = FakeHost()
    wanted = resources(inventory_of(tmp_path), "worker")
    first = planned(host, wanted)
    host.apply([change.operation for change in first.changes])
    other = OWN.replace(f"{{KEY: {CANARY}}}", f"{{KEY: {ANOTHER}}}")
    changed = resources(inventory_of(tmp_path, other), "worker")
    made = planned(host, changed)
    assert [(each.sign, each.summary, each.reason) for each in made.changes] == [
        ("~", "secret KEY of worker lines", "another value"),
        ("~", "restart gearman-worker@lines.service", "a secret of it changes"),
        ("~", "restart gearman-worker@lines:2.service", "a secret of it changes"),
    ]
    assert all(not each.diff for each in made.changes)
    said = shown(first) + shown(made)
    assert "secret KEY of worker lines" in said
    assert CANARY not in said
    assert ANOTHER not in said
    host.apply([change.operation for change in made.changes])
    assert planned(host, changed).changes == ()

    # Nor when a host cannot answer: a digest of it would help to guess it.
    questions = plan.questions_of(changed)
    secret = next(each for each in questions if each[:2] == ("path", f"{FOLDER}/lines.KEY"))
    unknown = plan.make_plan(changed, host.answer(questions) | {secret: Unknown("no such luck")})
    assert [each.message for each in unknown.problems] == [
        f"path {FOLDER}/lines.KEY: no such luck",
    ]


def test_a_secret_that_others_could_read_is_written_again(tmp_path: Path) -> None:
    host = FakeHost()
    wanted = resources(inventory_of(tmp_path), "worker")
    host.apply([change.operation for change in planned(host, wanted).changes])
    host.paths[f"{FOLDER}/shout.KEY"]["mode"] = "0644"
    host.paths[FOLDER]["mode"] = "0755"
    made = planned(host, wanted)
    assert [each.summary.partition(".")[0] for each in made.changes] == [
        "secret KEY of worker shout",
        f"directory {FOLDER}",
        "restart gearman-worker@shout",
    ]


def test_a_secret_goes_with_its_worker(tmp_path: Path) -> None:
    host = FakeHost()
    before = set(host.paths)
    wanted = resources(inventory_of(tmp_path), "worker")
    host.apply([change.operation for change in planned(host, wanted).changes])
    fewer = resources(inventory_of(tmp_path, ", gearman_functions: [wc]"), "worker")
    made = planned(host, fewer)
    order = [each.summary for each in made.changes if each.sign == "-"]
    assert order.index(f"file {FOLDER}/lines.KEY") > order.index(
        "stop gearman-worker@lines.service"
    )
    host.apply([change.operation for change in made.changes])
    assert planned(host, fewer).changes == ()
    left = {path for path in set(host.paths) - before if path.startswith("/etc/gearman")}
    assert left == set()
