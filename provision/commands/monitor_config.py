"""`./invoke monitor-config`: what a Prometheus needs to watch the job servers of an inventory."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from provision.errors import InventoryError, ToolkitError
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.inventory.places import reached_at
from provision.pki import authority_of
from provision.wording import format_count

RULES = Path(__file__).resolve().parents[2] / "monitoring" / "alerts.yml"
JOB = "gearmand"  # the rules expect this name
CLIENT = "prometheus"  # the name in its certificate


def write_config(folder: Path, to: Path) -> str:
    """Write prometheus.yml, its targets, the alert rules, and a certificate where TLS is on.

    Returns what was done. Raises ToolkitError.
    """
    hosts = [
        host
        for host in inventory.load(folder).group("job_server")
        if host.variables["gearman_metrics_port"]
    ]
    if not hosts:
        raise InventoryError("no host in group job_server has a gearman_metrics_port")
    secure = [host for host in hosts if host.variables["gearman_tls"]]
    files = {
        "prometheus.yml": yaml.safe_dump(_scrape_config(tls=bool(secure)), sort_keys=False),
        "gearmand.json": json.dumps([_target(host) for host in hosts], indent=2) + "\n",
        "alerts.yml": RULES.read_text(),
    }
    if secure:
        authority = authority_of(secure[0].folder)
        if not authority.kept:
            raise InventoryError(f"{authority.place}: the CA does not exist yet: a deploy makes it")
        days = secure[0].variables["gearman_certificate_days"]
        certificate, key = authority.issue([CLIENT], days)
        files["tls/ca.pem"] = authority.pem.decode()
        files["tls/client.pem"], files["tls/client.key"] = certificate.decode(), key.decode()
    try:
        for name, text in files.items():
            _write(to / name, text)
    except OSError as error:
        raise ToolkitError(f"{error.filename}: {error.strerror}") from error
    return (
        f"{to}: {format_count(len(hosts), 'job server')}; prometheus --config.file=prometheus.yml"
    )


def _target(host: Host) -> dict[str, Any]:
    known = host.variables
    place = reached_at(host, known["gearman_listen"], known["gearman_metrics_port"])
    labels = {"host": host.name}
    if known["gearman_tls"]:
        labels["__scheme__"] = "https"
    return {"targets": [place], "labels": labels}


def _scrape_config(*, tls: bool) -> dict[str, Any]:
    job: dict[str, Any] = {"job_name": JOB, "file_sd_configs": [{"files": ["gearmand.json"]}]}
    if tls:
        job["tls_config"] = {
            "ca_file": "tls/ca.pem",
            "cert_file": "tls/client.pem",
            "key_file": "tls/client.key",
        }
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [job],
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if path.suffix == ".key" else 0o644
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
