"""The rehearsal role: copies of restore points, apart from everything, and their signs of life.

Screens are not looked at yet; what a test can tell is the heartbeat of VMware Tools and ports that
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...domain.errors import GiveUp
from ..port import Intent, Isolation, Leftover, ReplicaRef, Running, Screen
from . import isolation, power, trials
from .connection import Connection
from .replica import Replica
from .trials import Trial


class VsphereRehearsal:
    """Implements :class:`~hotspare.platforms.port.Rehearsal`."""

    virts = frozenset({"vmware"})

    def __init__(self, connection: Connection, key: bytes) -> None:
        self._connection, self._key = connection, key

    def _replica(self, ref: ReplicaRef) -> Replica:
        return Replica(self._connection, self._key, ref)

    def _host(self, replica: Replica) -> Any:
        return self._connection.read(replica.machine(), "runtime.host")["runtime.host"]

    def isolate(self, replica: ReplicaRef, number: int, reach: str | None,
                intent: Intent) -> Isolation:
        there = self._replica(replica)
        point = there.lineage().point(number)
        if point is None:
            raise GiveUp("point.not-found", number=number)
        trial = Trial(intent, number)
        trials.begin(there, trial)
        return isolation.make(self._connection, self._host(there), point.vm, trial.switch, reach)

    # --- signs of life ---------------------------------------------------------------------------

    def _machine(self, running: Running) -> Any:
        return trials.machine_of(self._replica(running.replica), running.ref)

    def screen(self, running: Running) -> Screen | None:
        return None

    def heartbeat(self, running: Running) -> bool | None:
        machine = self._machine(running)
        if machine is None:
            return False
        values = self._connection.read(machine, "guestHeartbeatStatus", "guest.toolsStatus")
        if values.get("guest.toolsStatus") == "toolsNotInstalled":
            return None
        return str(values.get("guestHeartbeatStatus")) in ("green", "yellow")

    def addresses(self, running: Running) -> Sequence[str]:
        machine = self._machine(running)
        if machine is None:
            return []
        cards = self._connection.read(machine, "guest.net").get("guest.net", ())
        return [a for card in cards for a in card.ipAddress or () if ":" not in a]

    def ended(self, running: Running) -> str:
        machine = self._machine(running)
        if machine is None:
            return "other"
        if power.power_of(self._connection, machine) != "off":
            return ""
        clean = self._connection.read(machine, "runtime.cleanPowerOff").get(
            "runtime.cleanPowerOff")
        return "shut-down" if clean else "other"

    # --- leftovers -------------------------------------------------------------------------------

    def left(self, replica: ReplicaRef) -> Sequence[Intent]:
        return [t.intent for t in trials.all_of(self._replica(replica).files)]

    def clear(self, replica: ReplicaRef, intent: Intent) -> list[Leftover]:
        there = self._replica(replica)
        found: list[Leftover] = []
        for trial in trials.all_of(there.files):
            if trial.intent == intent:
                found += trials.clear(there, trial)
                found += isolation.remove(self._connection, self._host(there), trial.switch)
                found += trials.end(there, trial)
        return found
