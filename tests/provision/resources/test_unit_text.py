"""What a unit file says, and one of an earlier release at the job servers of today."""

import hashlib
import re

import pytest

from provision.resources.unit_text import with_servers_of

OLD = """\
[Service]
ExecStart=/opt/venv/bin/gearman-worker --address w --servers {servers} shop:worker
Environment=GEARMAN_CONFIG={config}
Environment=GEARMAN_SERVERS={servers}
{tls}Environment="PEER={servers}"
"""
TLS = """\
# Of the CA {ca}; read for each new connection.
Environment=GEARMAND_CA_CERTIFICATE=/etc/gearman/tls/ca.pem
Environment=GEARMAN_CLIENT_PEM=/etc/gearman/tls/host.pem
Environment=GEARMAN_CLIENT_KEY=/etc/gearman/tls/host.key
"""


def unit(servers: str, tls: str = "") -> str:
    """A worker's unit file, with its digest as a deploy writes it."""
    without = OLD.format(servers=servers, tls=tls, config="")
    digest = hashlib.sha256(without.encode()).hexdigest()[:12]
    return OLD.format(servers=servers, tls=tls, config=digest)


def others(text: str) -> list[str]:
    """Its lines, but for its digest and what is the operator's own."""
    return [line for line in text.splitlines() if "_CONFIG=" not in line and "PEER=" not in line]


PLACES = [
    unit("10.0.0.1:473"),
    unit("10.0.0.1:4730,10.0.0.2:4730"),
    unit("gearmans://10.0.0.1:4730", TLS.format(ca="ab")),
    unit("gearmans://10.0.0.3:4730", TLS.format(ca="cd")),
]


@pytest.mark.parametrize("now", PLACES)
@pytest.mark.parametrize("before", PLACES)
def test_a_kept_unit_file_names_the_job_servers_of_now(before: str, now: str) -> None:
    own = re.findall(r'^Environment="PEER=.*$', before, re.MULTILINE)  # the operator's own
    made = with_servers_of(before, now)
    assert re.findall(r'^Environment="PEER=.*$', made, re.MULTILINE) == own
    assert others(made) == others(now)
    blank = re.sub(r"(?m)(?<=GEARMAN_CONFIG=).*$", "", made)
    assert f"GEARMAN_CONFIG={hashlib.sha256(blank.encode()).hexdigest()[:12]}\n" in made
    assert with_servers_of(made, now) == made


@pytest.mark.parametrize("other", ["", "[Service]\nExecStart=/bin/true\n"])
def test_what_names_none_stays_as_it_is(other: str) -> None:
    assert with_servers_of(PLACES[0], other) == PLACES[0]
    assert with_servers_of(other, PLACES[0]) == other
