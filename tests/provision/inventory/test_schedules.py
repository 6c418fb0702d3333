"""`gearman_schedules` of an inventory: what a job server comes to have, and every mistake."""

from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory.drained import mark_drained
from provision.inventory.host import Inventory
from provision.inventory.schedules import place_schedules, schedules

HOSTS = "job_server:\n  hosts:\n    j1:\n    j2:\nworker:\n  hosts:\n    w1:\n"
NIGHTLY = "function: report, cron: 30 2 * * *"


def load(folder: Path, **files: str) -> Inventory:
    for name, text in {"hosts": HOSTS, **files}.items():
        path = folder / (name.replace("__", "/") + ".yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return inventory.load(folder)


def names(known: Inventory) -> dict[str, list[str]]:
    return {host.name: [each.name for each in schedules(host)] for host in known.hosts}


def test_what_is_said_is_merged_by_name_and_setting(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        group_vars__all=f"gearman_schedules: {{nightly: {{{NIGHTLY}}}, gone: {{{NIGHTLY}}}}}",
        group_vars__job_server="gearman_schedules: {nightly: {zone: Asia/Tokyo}, gone: }",
    )
    assert names(found) == {"j1": ["nightly"], "j2": ["nightly"], "w1": []}
    (nightly,) = schedules(found.hosts[0])
    assert nightly.where == f"{tmp_path}/group_vars/job_server.yml:1"
    facts = dict(nightly.facts)
    assert (facts["cron"], facts["zone"], facts["missed"]) == ("30 2 * * *", "Asia/Tokyo", "once")


def test_one_job_server_has_a_schedule_and_keeps_it_until_it_is_drained(tmp_path: Path) -> None:
    text = f"gearman_schedules: {{a: {{{NIGHTLY}}}, b: {{{NIGHTLY}}}}}"
    known = load(tmp_path, group_vars__all=text)
    assert names(place_schedules(known, {})) == {"j1": ["a", "b"], "j2": [], "w1": []}
    found = {"j1": {"a"}, "j2": {"a", "b"}}
    assert names(place_schedules(known, found)) == {"j1": ["a"], "j2": ["b"], "w1": []}
    drained = mark_drained(known, {"j2"})
    assert names(place_schedules(drained, found)) == {"j1": ["a", "b"], "j2": [], "w1": []}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a]", "1: gearman_schedules should be `name: value` pairs, and is ['a']"),
        ("{a b: {}}", "1: schedule 'a b' is not a valid name; use letters, digits, `_` and `-`"),
        (
            "{a: {function: f, corn: x}}",
            "1: schedule a: unknown setting 'corn'; did you mean 'cron'?",
        ),
        ("{a: {function: f}}", "1: schedule a: cron is missing"),
        ("{a: {cron: 0 5 * * *}}", "1: schedule a: function is missing"),
        (
            "{a: {function: f, cron: 5}}",
            "1: schedule a: cron should be a string, and is 5; put it in",
        ),
        ("{a: {function: f, cron: 0 5 * *}}", "1: schedule a: cron: 0 5 * *: expected five fields"),
        ("{a: {function: f, cron: 0 25 * * *}}", "1: schedule a: cron: 0 25 * * *: Bad hour"),
        (
            "{a: {function: f, cron: 0 5 30 2 *}}",
            "1: schedule a: cron: 0 5 30 2 *: Bad day-of-month",
        ),
        (
            f"{{a: {{{NIGHTLY}, zone: Europe/Berln}}}}",
            "1: schedule a: unknown time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?",
        ),
        (
            f"{{a: {{{NIGHTLY}, missed: onc}}}}",
            "1: schedule a: missed should be once, all or none, and is 'onc'; did you mean 'once'?",
        ),
        (
            f"{{a: {{{NIGHTLY}, workload: {'x' * 2600}}}}}",
            "a: it is too long: a schedule has at most",
        ),
        (
            f"{{a: {{{NIGHTLY}}}}}\ngearman_queue: memory",
            "1: gearman_schedules: job server j1 has gearman_queue: memory",
        ),
    ],
)
def test_every_mistake_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InventoryError) as raised:
        load(tmp_path, group_vars__all=f"gearman_schedules: {text}")
    assert f"group_vars/all.yml:{told}" in str(raised.value) or told in str(raised.value)


def test_job_servers_agree_about_a_schedule(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="schedule a is not the same for j2 and j1"):
        load(
            tmp_path,
            group_vars__all=f"gearman_schedules: {{a: {{{NIGHTLY}}}}}",
            host_vars__j2="gearman_schedules: {a: {function: other}}",
        )
