"""One protected guest for all crash tests: each leaves it as it should be, or it is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.conftest import pytest_runtest_makereport
from e2e.rig import Rig, Server, remove_replicas

if TYPE_CHECKING:
    from testbeds.kvm import Lab

__all__ = ["pytest_runtest_makereport"]


class Shared:
    """Makes the rig when it is first wanted, and again after a test that failed."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._lab, self._directory = lab, directory
        self._made = 0
        self.rig: Rig | None = None

    def ready(self) -> Rig:
        if self.rig is None:
            self._made += 1
            self._lab.a.start()
            self._lab.b.start()
            folder = self._directory / str(self._made)
            folder.mkdir()
            guest = self._lab.define_guest(self._lab.a, f"crash-{self._made}", boot="kernel",
                                           rate=20.0)
            guest.start()
            guest.wait_ready()
            guest.wait_agent()
            self.rig = Rig(self._lab, Server(folder).start(), guest)
            self.rig.protect(retention=2)
            self.rig.run()
            self.rig.run()
            self.rig.server.stop()
        return self.rig

    def drop(self) -> None:
        if self.rig is not None:
            if self.rig.server.alive:
                self.rig.server.kill()
            self._lab.a.start()
            self._lab.b.start()
            self._lab.remove_guest(self.rig.guest)
            remove_replicas(self._lab, [self.rig.rule_id])
            self.rig = None


@pytest.fixture(scope="package")
def shared(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(lab, tmp_path_factory.mktemp("crash"))
    yield made
    made.drop()


@pytest.fixture
def rig(shared: Shared, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The guest runs and has at least two points; the server is stopped."""
    ready = shared.ready()
    yield ready
    if getattr(request.node, "failed", True):
        if ready.server.alive:
            print(ready.story())
        shared.drop()
    elif ready.server.alive:
        ready.server.stop()
