"""Where a job server keeps its jobs: in a file, in memory, or in a database that it logs in to."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.inventory.queue import release_extras
from provision.resources.unit import UnitFile
from tests.provision.fake_host import FakeHost, file
from tests.roles.test_roles import ARTIFACT, HOSTS, load, planned, resources

CANARY = "canary-0123"
POSTGRES = "gearman_queue: postgres, gearman_database: 'host=db dbname=jobs user=ann'"
REDIS = "gearman_queue: redis, gearman_database: 'rediss://ann@db.example.com:6380'"
LOGIN = f"gearman_database_password: {CANARY}"


def hosts_with(*settings: str) -> str:
    return HOSTS.replace("198.18.10.247", ", ".join(["198.18.10.247", *settings]))


def server_text(folder: Path, *settings: str) -> str:
    found = resources(load(folder, hosts_with(*settings)), "job")
    files = [each for each in found if isinstance(each, UnitFile)]
    (text,) = (each.content.decode() for each in files if each.path.endswith("gearmand.service"))
    return text


def options_of(text: str) -> str:
    """What says where jobs are kept."""
    (line,) = (each for each in text.splitlines() if each.startswith("ExecStart="))
    return line.partition("9418")[2].partition(" -l stderr")[0].strip()


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ("gearman_queue: sqlite", "-q sqlite --queue-file /var/lib/gearmand/queue.db"),
        ("gearman_queue: memory", ""),
        ("gearman_durable: false", ""),
        ("gearman_queue: sqlite, gearman_durable: false",
         "-q sqlite --queue-file /var/lib/gearmand/queue.db"),
        (POSTGRES, '-q postgres --postgres "host=db dbname=jobs user=ann"'),
        (
            "gearman_queue: postgres, gearman_database: 'postgresql://ann@db/jobs?a=50%25'",
            '-q postgres --postgres "postgresql://ann@db/jobs?a=50%%25"',
        ),
        (
            REDIS,
            "-q redis --redis-server db.example.com --redis-port 6380 --redis-user ann --redis-tls",
        ),
        ("gearman_queue: redis, gearman_database: 'redis://[fd00::1]'",
         "-q redis --redis-server fd00::1"),
        ("gearman_queue: redis, gearman_database: 'unix:///run/redis.sock'",
         "-q redis --redis-server /run/redis.sock"),
    ],
)  # fmt: skip
def test_a_queue_is_said_in_the_options_of_gearmand(
    settings: str, options: str, tmp_path: Path
) -> None:
    assert options_of(server_text(tmp_path, settings)) == options


def test_results_are_kept_as_the_inventory_says(tmp_path: Path) -> None:
    text = server_text(tmp_path, "gearman_keep_results: '3600 thumbnail=86400'")
    assert options_of(text).endswith("--keep-results 3600 --keep-results thumbnail=86400")
    assert "--keep-results" not in server_text(tmp_path)
    with pytest.raises(InventoryError, match=r"should be seconds, or FUNCTION=SECONDS"):
        server_text(tmp_path, "gearman_keep_results: 1h")


def test_a_database_is_waited_for_at_boot_and_a_file_is_not(tmp_path: Path) -> None:
    assert "StartLimitIntervalSec=0" in server_text(tmp_path, POSTGRES)
    assert "StartLimitIntervalSec=60" in server_text(tmp_path)


@pytest.mark.parametrize("queue", [POSTGRES, REDIS])
def test_a_password_reaches_the_server_as_a_credential_alone(queue: str, tmp_path: Path) -> None:
    wanted = resources(load(tmp_path, hosts_with(queue, LOGIN)), "job")
    host = FakeHost()
    made = planned(host, wanted)
    assert not made.problems
    host.apply([change.operation for change in made.changes])
    path = "/etc/gearman/secrets/gearmand.password"
    assert host.paths[path] == file(CANARY.encode(), mode="0600")
    text = server_text(tmp_path, queue, LOGIN)
    assert f"\nLoadCredential=password:{path}\n" in text
    assert text.count("-passfile ${CREDENTIALS_DIRECTORY}/password") == 2  # a reload's too
    assert CANARY not in text
    assert not any(CANARY in change.diff + change.summary for change in made.changes)
    assert planned(host, wanted).changes == ()

    another = resources(load(tmp_path, hosts_with(queue, LOGIN.replace("0", "9"))), "job")
    told = [(each.summary, each.reason) for each in planned(host, another).changes]
    assert told == [
        ("secret password of gearmand", "another value"),
        ("restart gearmand.service", "a secret of it changes; connections are dropped"),
    ]


@pytest.mark.parametrize(
    ("queue", "options"),
    [
        (POSTGRES, "user=ann sslmode=verify-full sslrootcert=/etc/gearman/database-ca.pem"),
        (REDIS, "--redis-tls --redis-ca /etc/gearman/database-ca.pem"),
    ],
)
def test_a_ca_of_the_database_is_brought_and_trusted(
    queue: str, options: str, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("of the database")
    settings = queue, "gearman_database_ca: ca.pem"
    assert options in server_text(tmp_path, *settings)
    host = FakeHost()
    made = planned(host, resources(load(tmp_path, hosts_with(*settings)), "job"))
    host.apply([change.operation for change in made.changes])
    assert host.paths["/etc/gearman/database-ca.pem"]["content"].endswith(b"of the database")

    (tmp_path / "ca.pem").write_text("of another one")
    changes = planned(host, resources(load(tmp_path, hosts_with(*settings)), "job")).changes
    assert "reload gearmand.service" in [each.summary for each in changes]


def test_a_release_brings_what_the_queues_of_its_fleet_need(tmp_path: Path) -> None:
    assert release_extras(load(tmp_path)) == ()
    assert release_extras(load(tmp_path, hosts_with(POSTGRES))) == ("postgres",)
    another = HOSTS.replace("job_server:\n      hosts:\n", "job_server:\n      hosts:\n        "
                            f"more: {{ansible_host: 198.18.10.2, {REDIS}}}\n")  # fmt: skip
    assert release_extras(load(tmp_path, another)) == ("redis",)


def test_a_release_that_runs_and_does_not_bring_it_is_a_problem(tmp_path: Path) -> None:
    host = FakeHost()
    made = planned(host, resources(load(tmp_path), "job"))
    host.apply([change.operation for change in made.changes])
    manifest = f"/opt/gearman/releases/{ARTIFACT.id}/MANIFEST.json"
    wanted = resources(load(tmp_path, hosts_with(POSTGRES)), "job")
    host.paths[manifest] = file(b'{"wheels": {"uvloop-0.23.0-cp311.whl": ""}}')
    (problem,) = planned(host, wanted).problems
    assert "gearman_queue: postgres needs psycopg, which release" in problem.message
    host.paths[manifest] = file(b'{"wheels": {"psycopg-3.3.9-py3-none-any.whl": ""}}')
    assert not planned(host, wanted).problems


@pytest.mark.parametrize(("wheel", "problems"), [("uvloop", 1), ("psycopg", 0)])
def test_a_release_that_a_new_host_would_get_brings_it(
    wheel: str, problems: int, tmp_path: Path
) -> None:
    manifest = tmp_path / "MANIFEST.json"
    manifest.write_text(f'{{"wheels": {{"{wheel}-1.0-py3-none-any.whl": ""}}}}')
    with tarfile.open(tmp_path / "release.tar", "w") as tar:
        tar.add(manifest, manifest.name)
    artifact = replace(ARTIFACT, path=tmp_path / "release.tar")
    wanted = resources(load(tmp_path, hosts_with(POSTGRES)), "job", artifact)
    assert len(planned(FakeHost(), wanted).problems) == problems


def test_jobs_that_another_queue_would_not_have_keep_the_server_at_its_own(tmp_path: Path) -> None:
    host = FakeHost()
    made = planned(host, resources(load(tmp_path), "job"))
    host.apply([change.operation for change in made.changes])
    host.queued = {"mail": 3}
    (problem,) = planned(host, resources(load(tmp_path, hosts_with(POSTGRES)), "job")).problems
    assert "holds 3 jobs (mail 3), which postgres would not have" in problem.message
    assert f"gearman_queue ({tmp_path}/hosts.yml:5) at sqlite" in problem.message
    host.queued = {}
    assert not planned(host, resources(load(tmp_path, hosts_with(POSTGRES)), "job")).problems


OTHER_USER = POSTGRES.replace("user=ann", "user=bob")
AS_URL = "gearman_queue: postgres, gearman_database: 'postgresql://bob@{}/jobs?sslmode=require'"


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        (POSTGRES, OTHER_USER, False),
        (POSTGRES, AS_URL.format("db"), False),
        (AS_URL.format("db:5432"), AS_URL.format("ann@db:5432"), False),
        (POSTGRES, POSTGRES.replace("dbname=jobs", "dbname=others"), True),
        (POSTGRES, AS_URL.format("db:5433"), True),
        (POSTGRES, AS_URL.format("[fd00::1]"), True),
        (REDIS, REDIS.replace("6380", "6381"), True),
        (REDIS, REDIS.replace("rediss://ann@", "redis://"), False),
    ],
)
def test_jobs_that_another_database_would_not_have_keep_the_server_at_its_own(
    before: str, after: str, moves: bool, tmp_path: Path
) -> None:
    host = FakeHost()
    made = planned(host, resources(load(tmp_path, hosts_with(before)), "job"))
    host.apply([change.operation for change in made.changes])
    host.queued = {"mail": 3}
    problems = planned(host, resources(load(tmp_path, hosts_with(after)), "job")).problems
    assert bool(problems) == moves
    for problem in problems:
        assert f"leave gearman_database ({tmp_path}/hosts.yml:5) as it was" in problem.message
        assert "if they were copied there" in problem.message


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("gearman_queue: mysql", "'mysql' should be memory, sqlite, postgres or redis"),
        ("gearman_queue: redis", "gearman_queue: redis needs gearman_database"),
        (LOGIN, "gearman_database_password is for gearman_queue: postgres or redis"),
        (POSTGRES.replace("user=ann", f"password={CANARY}"), "a password must not stand in it"),
        (REDIS.replace("ann@", f"ann:{CANARY}@"), "a password must not stand in it"),
        (REDIS.replace("rediss", "https"), "expected redis://[USER@]HOST[:PORT], rediss://"),
        (REDIS.replace("6380", "638000"), "gearman_database: Port out of range"),
        (REDIS.replace("6380", "6380/1"), "expected redis://"),
        (REDIS.replace("6380", "6380?db=1"), "nothing may follow its path"),
        (POSTGRES.replace("host=db", "mysql://db/"), "expected postgresql://USER@HOST/NAME"),
        (f"{REDIS}, gearman_database_ca: none.pem", "gearman_database_ca: no file"),
        (REDIS.replace("rediss", "redis") + ", gearman_database_ca: hosts.yml",
         "it is without TLS, and gearman_database_ca is for TLS: rediss://"),
        (POSTGRES.replace("user=ann", "sslrootcert=x") + ", gearman_database_ca: hosts.yml",
         "it names sslrootcert, and so does gearman_database_ca"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_no_password(
    settings: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InventoryError) as caught:
        resources(load(tmp_path, hosts_with(settings)), "job")
    text = str(caught.value)
    assert told in text
    assert "hosts.yml:5" in text
    assert CANARY not in text
