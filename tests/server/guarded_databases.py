"""Databases that take a user by TLS and with a password alone, as those of a fleet do."""

import shutil
from pathlib import Path
from typing import Protocol

import psycopg

from tests.authority import Authority
from tests.ports import reserve_port
from tests.server import databases
from tests.server.databases import LOOPBACK

USER, PASSWORD = "queue", "pass word'%$"


class GuardedDatabase(databases.Database, Protocol):
    def login(self, password: Path, ca: Path) -> list[str]:
        """What a job server is told, of the file with the password and of that of the CA."""


class Postgres(databases.Postgres):
    """One that takes USER by TLS and with the password alone."""

    def __init__(self, folder: Path, authority: Authority, address: str = LOOPBACK) -> None:
        super().__init__(folder, address=address)
        tls = authority.issue("postgres", address=address)
        for source, name in ((tls.certificate, "server.crt"), (tls.key, "server.key")):
            target = self.data / name
            shutil.copy(source, target)
            shutil.chown(target, "postgres", "postgres")
            target.chmod(0o600)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\n")
        (self.data / "pg_hba.conf").write_text(
            f"host all postgres {address}/32 trust\nhostssl all {USER} samenet scram-sha-256\n"
        )

    def start(self) -> None:
        super().start()
        with psycopg.connect(self.where, autocommit=True) as connection:
            secret = psycopg.sql.Literal(PASSWORD)
            create = psycopg.sql.SQL("CREATE ROLE queue LOGIN PASSWORD {}").format(secret)
            connection.execute(create)
            connection.execute("CREATE DATABASE jobs OWNER queue")

    @property
    def place(self) -> str:
        return " ".join(self.where.split()[:2])

    def login(self, password: Path, ca: Path) -> list[str]:
        where = f"{self.place} user={USER} dbname=jobs sslmode=verify-full sslrootcert={ca}"
        return ["-q", "postgres", "--postgres", where, "--postgres-passfile", str(password)]


class Redis(databases.Redis):
    """One that takes USER by TLS and with the password alone."""

    def __init__(self, folder: Path, authority: Authority, address: str = LOOPBACK) -> None:
        tls = authority.issue("redis", address=address)
        self.tls_port = reserve_port()
        words = "--appendonly", "yes", "--appendfsync", "always"
        super().__init__(folder, *words, address=address)
        self._command += ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
        self._command += ["--tls-cert-file", tls.certificate, "--tls-key-file", tls.key]

    def start(self) -> None:
        super().start()
        with self.connect() as client:
            client.acl_setuser(USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"],
                               commands=["+@all"])  # fmt: skip
            client.config_set("port", 0)

    def login(self, password: Path, ca: Path) -> list[str]:
        words = ["-q", "redis", "--redis-port", str(self.tls_port), "--redis-user", USER]
        return [*words, "--redis-tls", "--redis-ca", str(ca), "--redis-passfile", str(password)]
