"""A failback from stage to stage, one of them killed on its way."""

from __future__ import annotations

from typing import Any

from e2e.rig import Rig, content, wait_for


def images(rig: Rig) -> list[str]:
    return [content(str(path), "qcow2") for path in rig.guest.disk_paths]


class Stages:
    """Takes the rig from stage to stage; the one that is wanted is killed on its way."""

    def __init__(self, rig: Rig, stage: str, point: str) -> None:
        self.rig, self.stage, self.point = rig, stage, point
        self.replica: Any = None
        self.made: Any = None           # at a new place

    def ask(self, stage: str, operation: str, *arguments: Any, state: str = "",
            outcome: str = "ok", **options: Any) -> None:
        rig = self.rig
        killed = stage == self.stage
        if killed:
            rig.server.stop()
            rig.server.start(f"{self.point}:kill")
        with rig.server.client() as client:
            task = getattr(client, operation)(rig.rule, *arguments, **options)
        if killed:
            wait_for(lambda: not rig.server.alive, 60, "the process is killed at the fault point")
            rig.server.start()
            rig.settled(90)
        rig.ended(task, outcome=outcome)
        with rig.server.client() as client:
            found = client.rule(rig.rule)
        assert found["state"] in state.split("|"), (found["state"], found["last_error"])
        assert self.running() <= 1

    def running(self) -> int:
        machines = [guest.domain_or_none() for guest in (self.rig.guest, self.replica, self.made)
                    if guest is not None]
        return sum(bool(machine.isActive()) for machine in machines if machine is not None)
