"""`invoke monitor-config`: Prometheus takes what it writes."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from provision.commands.monitor_config import write_config
from provision.errors import InventoryError
from provision.pki import authority_of

ROOT = Path(__file__).resolve().parents[3]


def make_inventory(folder: Path, **variables: str) -> Path:
    """Two job servers and a worker host; variables of the first, as YAML."""
    own = "".join(f"          {name}: {value}\n" for name, value in variables.items())
    folder.mkdir()
    (folder / "hosts.yml").write_text(
        "all:\n  children:\n"
        "    job_server:\n      hosts:\n"
        f"        j1:\n          ansible_host: 10.0.0.1\n{own}"
        "        j2:\n          ansible_host: 10.0.0.2\n          gearman_metrics_port: 9999\n"
        "    worker:\n      hosts:\n        w1:\n          ansible_host: 10.0.0.3\n"
    )
    return folder


def check_config(folder: Path) -> None:
    """Have Prometheus read it, if it is installed."""
    if promtool := shutil.which("promtool"):
        done = subprocess.run(
            [promtool, "check", "config", "prometheus.yml"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_job_servers_are_its_targets(tmp_path: Path) -> None:
    hosts, to = make_inventory(tmp_path / "inventory"), tmp_path / "to"
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "monitor-config", "--hosts", hosts, "--to", to],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{to}: 2 job servers; prometheus --config.file=prometheus.yml\n"
    assert json.loads((to / "gearmand.json").read_text()) == [
        {"targets": ["10.0.0.1:9418"], "labels": {"host": "j1"}},
        {"targets": ["10.0.0.2:9999"], "labels": {"host": "j2"}},
    ]
    assert (to / "alerts.yml").read_text() == (ROOT / "monitoring/alerts.yml").read_text()
    assert not (to / "tls").exists()
    check_config(to)


def test_with_tls_it_has_a_certificate_of_the_fleet(tmp_path: Path) -> None:
    hosts, to = make_inventory(tmp_path / "inventory", gearman_tls="true"), tmp_path / "to"
    with pytest.raises(InventoryError, match="the CA does not exist yet: a deploy makes it"):
        write_config(hosts, to)
    assert authority_of(hosts).keep()
    write_config(hosts, to)
    (first, second) = json.loads((to / "gearmand.json").read_text())
    assert first["labels"] == {"host": "j1", "__scheme__": "https"}
    assert second["labels"] == {"host": "j2"}
    assert stat.S_IMODE((to / "tls/client.key").stat().st_mode) == 0o600
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", to / "tls/ca.pem", to / "tls/client.pem"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    check_config(to)


def test_job_servers_without_metrics_are_left_out(tmp_path: Path) -> None:
    hosts = make_inventory(tmp_path / "inventory", gearman_metrics_port="0")
    write_config(hosts, tmp_path / "to")
    assert len(json.loads((tmp_path / "to/gearmand.json").read_text())) == 1
    single = tmp_path / "none.yml"
    single.write_text(
        "job_server: {hosts: {j1: {ansible_host: 10.0.0.1, gearman_metrics_port: 0}}}\n"
    )
    with pytest.raises(InventoryError, match="no host in group job_server has"):
        write_config(single, tmp_path / "to")
