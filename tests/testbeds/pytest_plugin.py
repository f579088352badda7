"""Pytest fixtures of the test beds. Load with `-p testbeds.pytest_plugin` or pytest_plugins.

A missing prerequisite skips a test with its reason, so that anyone can run the suite. Where the
environment has CI=true it fails instead: there, a test that never runs must not look green.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .kvm.errors import MissingPrerequisite
from .vsphere.build import real_plugin

if TYPE_CHECKING:
    from .kvm import Guest, Lab, SessionHost
    from .postgres import Postgres
    from .vsphere.bed import Vsphere

_numbers = itertools.count(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what vSphere's disks were read with: the real thing is not everywhere."""
    real = real_plugin()
    terminalreporter.write_line("vSphere test bed: VMware's library is a stand-in, nbdkit's plugin "
                                + ("a stand-in, too" if real is None else str(real)))


def missing(error: MissingPrerequisite) -> None:
    """Skip, or fail under CI=true, for a missing prerequisite."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"The test bed cannot run: {error}", pytrace=False)
    pytest.skip(f"The test bed cannot run: {error}")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One lab for the whole test session; tests share its hosts and must clean up after them."""
    try:
        from .kvm.lab import Lab

        with Lab() as running:
            yield running
    except MissingPrerequisite as error:
        missing(error)


@pytest.fixture
def host_a(lab: Lab) -> SessionHost:
    """The host where guests usually live; started again if a test before ended its daemon."""
    lab.a.start()
    return lab.a


@pytest.fixture
def host_b(lab: Lab) -> SessionHost:
    """The host that usually receives replicas; started again if a test before ended its daemon."""
    lab.b.start()
    return lab.b


@pytest.fixture
def guest_factory(lab: Lab) -> Iterator[Callable[..., Guest]]:
    """Return a function that defines guests with unique names; they are removed after the test.

    Call it as guest_factory(host=None, **options): the options of Lab.define_guest, on host a
    unless told otherwise.
    """
    made: list[Guest] = []

    def define(host: SessionHost | None = None, **options: Any) -> Guest:
        name = options.pop("name", "vm")
        guest = lab.define_guest(host or lab.a, f"{name}-{next(_numbers)}", **options)
        made.append(guest)
        return guest

    yield define
    for guest in made:
        guest.host.start()  # a test may have killed its daemon
        lab.remove_guest(guest)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the whole test session; whoever stops it starts it again."""
    try:
        from .postgres import Postgres

        with Postgres() as running:
            yield running
    except MissingPrerequisite as error:
        missing(error)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The address of a database of the test's own, with the schema of this version."""
    postgres.start()
    url = postgres.lend()
    yield url
    postgres.start()
    postgres.give_back(url)

@pytest.fixture(scope="session")
def vsphere() -> Iterator[Vsphere]:
    """One vCenter for the whole test session; a test leaves it without faults and machines."""
    yield from _vsphere()


@pytest.fixture(scope="session")
def esxi() -> Iterator[Vsphere]:
    """One ESXi host without a vCenter."""
    yield from _vsphere(esx=True)


@pytest.fixture
def vsphere_factory() -> Iterator[Callable[..., Vsphere]]:
    """Start one with options of its own; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextmanager(_vsphere)(**options))


def _vsphere(**options: Any) -> Iterator[Vsphere]:
    try:
        from .vsphere.bed import Vsphere

        with Vsphere(**options) as running:
            yield running
    except MissingPrerequisite as error:
        missing(error)
