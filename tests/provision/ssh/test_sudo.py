"""The sudo password: where it is taken from, and that a wrong one is tried on two hosts alone."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from provision.errors import PasswordRefused, Unreachable
from provision.inventory.secrets import Secret
from provision.ssh.sudo import SudoPassword
from tests.attacks import attack

HOSTS = [f"w{number}" for number in range(8)]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARMAN_SUDO_PASSWORD", "typed")


def test_it_is_taken_from_where_it_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(inventory: Secret | None) -> Secret | None:
        with SudoPassword().offer_password("w1", inventory) as password:
            return password()

    monkeypatch.setenv("GEARMAN_SUDO_PASSWORD", "of the environment")
    assert given(Secret("of the inventory")) == Secret("of the inventory")
    assert given(None) == Secret("of the environment")
    monkeypatch.delenv("GEARMAN_SUDO_PASSWORD")
    if not os.isatty(0):
        assert given(None) is None
    assert str(Secret("x")) == repr(Secret("x")) == f"{Secret('x')}" == "<secret>"


def try_all(attempt: Callable[[str], None]) -> list[str]:
    """Every host at once; what each was told."""
    barrier = Barrier(len(HOSTS))

    def one(host: str) -> str:
        barrier.wait()
        try:
            attempt(host)
        except Unreachable as error:
            return str(error)
        return "let in"

    with ThreadPoolExecutor(len(HOSTS)) as threads:
        return list(threads.map(one, HOSTS))


@pytest.mark.usefixtures("typed")
def test_one_that_two_hosts_refused_is_tried_on_no_other() -> None:
    sudo = SudoPassword()
    tried = []

    def attempt(host: str) -> None:
        with sudo.offer_password(host, None) as password:
            assert password() == Secret("typed")
            tried.append(host)
            raise PasswordRefused(f"{host}: refused")

    told = try_all(attempt)
    first, second = tried
    why = f"{first} and {second} refused it: it was not tried here"
    assert sorted(told) == sorted(
        f"{host}: refused" if host in tried else f"{host}: sudo asks for a password, and {why}"
        for host in HOSTS
    )
    with sudo.offer_password("w9", Secret("another")) as password:
        assert password() == Secret("another")


@attack("compromised host", "have the sudo password count as wrong for all hosts", "mended")
@pytest.mark.usefixtures("typed")
def test_one_that_a_host_refuses_alone_is_not_wrong() -> None:
    sudo = SudoPassword()

    def attempt(host: str) -> None:
        with sudo.offer_password(host, None) as password:
            assert password() == Secret("typed")
            if host == HOSTS[0]:
                raise PasswordRefused(f"{host}: refused")

    with pytest.raises(PasswordRefused):
        attempt(HOSTS[0])
    assert try_all(attempt)[1:] == ["let in"] * (len(HOSTS) - 1)


@pytest.mark.usefixtures("typed")
def test_an_accepted_one_is_given_to_all_at_once() -> None:
    sudo = SudoPassword()
    with sudo.offer_password("w0", None) as password:
        password()
    together = Barrier(len(HOSTS), timeout=60)

    def attempt(host: str) -> None:
        with sudo.offer_password(host, None) as password:
            assert password() == Secret("typed")
            together.wait()

    assert set(try_all(attempt)) == {"let in"}


@pytest.mark.usefixtures("typed")
def test_a_host_that_fails_otherwise_does_not_spoil_it() -> None:
    sudo = SudoPassword()

    def attempt(host: str) -> None:
        with sudo.offer_password(host, None) as password:
            assert password() == Secret("typed")
            if host in HOSTS[:4]:
                raise Unreachable("no python")

    told = try_all(attempt)
    assert told[:4] == ["no python"] * 4
    assert set(told[4:]) == {"let in"}
