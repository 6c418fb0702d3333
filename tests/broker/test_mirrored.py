"""The accelerator does in C what the broker does for an ordinary job: a change here is made there.

See docs/contributing.md, "Python and C twins"; tests/accelerator compares what both do.
"""

import ast
import hashlib
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from gearman_py.broker.broker import FACTS

ROOT = Path(__file__).resolve().parents[2]
TWIN_FILE = "gearman_py/_speedups_broker.c"

# What is done in C too, each with the hash of its source without comments and docstrings.
MIRRORED = {
    "broker.handle_messages": "73df00701cd6",
    "clients._handle_submit": "83eeef8da33f",
    "clients.accept": "54277d88115a",
    "clients._acknowledge_job": "9c33f6f33c48",
    "workers._pre_sleep": "066fbd55ee4d",
    "workers._handle_grab": "6d6daaea3c42",
    "workers._work_complete": "f02eaf1c81cc",
    "functions.Functions.candidates": "9d24f17b9ef7",
    "functions.Functions.sleep": "e01c912cf7fb",
    "functions.Functions.has_job": "259066fd94a5",
    "functions.Functions.awake": "862893caf903",
    "functions.Functions.wake": "1655dd0455e5",
    "functions.Functions._wake_worker": "a09d82093ecb",
    "restrictions.RestrictedFunctions.has_job": "d10487cb6630",
    "restrictions.RestrictedFunctions.apply_restrictions": "2a85a238e49b",
    "restrictions.RestrictedFunctions._update_choosy": "036e63f66422",
    "queues.Queues.handle": "fadbc6ab5285",
    "queues.Queues.enter": "9d7b614a7225",
    "queues.Queues.take": "3b6b37f2640c",
    "queues.Queues._by_priority": "e6e3ab542558",
    "queues.Queues.finish": "72d93dfe4d39",
    "queues.Queues.erase": "e17f5ae3a4da",
    "job_table.JobTable.add": "955c870bc04c",
    "job_table.JobTable.remove": "a5bdcba1cb0a",
    "uniques.Uniques": "fdbe9056159e",
    "rules.Rules.tell": "0dc0adbfd627",
    "outbox.Outbox.send": "68f13323dd16",
    "state.BrokerJob.__init__": "db784100a5a6",
    "state.Function.push": "bc4cd747d5ad",
    "state.Function.pop": "93f229b13c3a",
    "state.Function._unload_if_empty": "d4fb8bd8b15b",
    "state.coalesces_on": "0186371b0dc2",
}

# The slots that are not looked at in C, as ordinary jobs are the same whatever they hold.
NOT_MIRRORED = {
    "job": set[str](),
    "function": {"key_limit", "max_running", "paused", "rate", "scheduled"},  # see plain
    "peer": {
        *("address", "client_id", "deferred", "excepted", "exceptions", "former_turns", "listing"),
        *("since", "number", "operator", "overdue", "ready", "resubmits", "results", "sent"),
    },
    "queues": {
        *("_due", "_foreign_handles", "_unused", "_withheld", "adopted", "changes"),
        *("demand", "failed", "lease_over", "restrictions", "schedules"),  # see choosy
    },
    "table": set[str](),
    "counts": {"name", "submitters"},
    "totals": {"functions", "others", "packets", "refusals"},  # see accelerated_packets
}


def fingerprint(name: str) -> str:
    """That of what a function does."""
    module, _, path = name.partition(".")
    found: Any = importlib.import_module(f"gearman_py.broker.{module}")
    for each in path.split("."):
        found = getattr(found, each)
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", MIRRORED)
def test_a_change_in_python_is_made_in_c_too(name: str) -> None:
    now = fingerprint(name)
    assert MIRRORED[name] == now, (
        f"gearman_py.broker.{name} has changed, and {TWIN_FILE} does the same for ordinary jobs: "
        f"change it there too, or have it DECLINE what is new; then put {now!r} here"
    )


@pytest.mark.parametrize("name", NOT_MIRRORED)
def test_each_attribute_is_known(name: str) -> None:
    cls: Any = FACTS[name]
    all_ = {slot for each in cls.__mro__ for slot in vars(each).get("__slots__", ())}
    known = set(re.findall(rf"X\({name}, (\w+)\)", Path(ROOT, TWIN_FILE).read_text()))
    assert all_ - known == NOT_MIRRORED[name], (
        f"{cls.__name__} has other attributes than the accelerator knows of: if an ordinary job "
        f"differs by a new one, {TWIN_FILE} must look at it (SLOTS); if not, name it here"
    )
