"""A Hotspare of its own for each test, between the session's two hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .rig import Rig, Server, remove_replicas
from .system_host import system

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab

__all__ = ["system"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Let the fixture know that its test failed, so that it tells what the tasks said."""
    report = (yield).get_result()
    if report.when == "call":
        item.failed = report.failed  # type: ignore[attr-defined]


@pytest.fixture
def rig_factory(lab: Lab, guest_factory: Callable[..., Guest], tmp_path: Path,
                request: pytest.FixtureRequest) -> Iterator[Callable[..., Rig]]:
    """Make a running, writing guest and a server; ``rig_factory(**guest options)``."""
    lab.a.start()
    lab.b.start()
    made: list[Rig] = []

    def make(fault: str = "", fault_log: Path | None = None, **options: Any) -> Rig:
        guest = guest_factory(**options)
        guest.start()
        guest.wait_ready()
        guest.wait_agent()
        rig = Rig(lab, Server(tmp_path).start(fault, fault_log), guest)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        if rig.server.alive and getattr(request.node, "failed", False):
            print(rig.story())
        if rig.server.alive:
            rig.server.stop()
        lab.a.start()
        lab.b.start()
        remove_replicas(lab, [rig.rule_id])
