"""Snapshots of ours: found by their names, which are those of their intents.

The description holds what the platform does not keep: when and how the instant was taken.
Snapshots of anybody else are never touched.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...domain.errors import GiveUp, Retry
from ..port import Intent
from .connection import Connection

_BUSY = ("createSnapshot", "removeSnapshot", "removeAllSnapshots", "revertToSnapshot",
         "revertToCurrentSnapshot", "consolidateDisks")


@dataclass(frozen=True, slots=True)
class Snapshot:
    ref: Any
    name: str
    intent: Intent
    facts: Mapping[str, Any]        # of its description; empty when that is not ours


def own(connection: Connection, machine: Any, rule: str) -> list[Snapshot]:
    """Those of a rule, the oldest first. Waits for none that is being made: Retry
    ``source.busy``."""
    values = connection.read(machine, "snapshot", "recentTask")
    for task in values.get("recentTask", ()):
        with contextlib.suppress(GiveUp):       # it went out of the server's list meanwhile
            info = connection.read(task, "info")["info"]
            if info.state in ("queued", "running") and (
                    info.descriptionId.rpartition(".")[2] in _BUSY):
                raise Retry("source.busy", after_s=5, vm=machine._moId)
    tree = values.get("snapshot")
    found = list(_named(tree.rootSnapshotList if tree is not None else (), rule))
    return sorted(found, key=lambda s: s.intent.age)


def of_points(connection: Connection, machine: Any, rule: str) -> list[Snapshot]:
    """Those that are a replica's restore points, published or not."""
    tree = connection.read(machine, "snapshot").get("snapshot")
    return list(_named(tree.rootSnapshotList if tree is not None else (), rule, points=True))


def names(connection: Connection, machine: Any) -> dict[str, Any]:
    """All snapshots of a machine, whoever made them, by name."""
    def walk(trees: Any) -> Iterator[tuple[str, Any]]:
        for item in trees:
            yield item.name, item.snapshot
            yield from walk(item.childSnapshotList)

    tree = connection.read(machine, "snapshot").get("snapshot")
    return dict(walk(tree.rootSnapshotList if tree is not None else ()))


def _named(trees: Any, rule: str, points: bool = False) -> Iterator[Snapshot]:
    for tree in trees:
        intent = Intent.of_name(tree.name)
        if intent is not None and intent.rule == rule and (
                re.fullmatch(r"\.p\d+", tree.name.removeprefix(str(intent)))
                if points else str(intent) == tree.name):
            yield Snapshot(tree.snapshot, tree.name, intent, _facts(tree.description))
        yield from _named(tree.childSnapshotList, rule, points)


def _facts(description: str) -> Mapping[str, Any]:
    try:
        found = json.loads(description)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def create(connection: Connection, machine: Any, intent: Intent, quiesce: bool,
           facts: Mapping[str, Any]) -> Snapshot:
    """Without memory. Raises GiveUp ``snapshot.failed``, also where quiescing failed,
    ``snapshot.too-many``, OutOfSpace, Retry ``source.busy``."""
    return create_named(connection, machine, str(intent), intent, facts, quiesce)


def create_named(connection: Connection, machine: Any, name: str, intent: Intent,
                 facts: Mapping[str, Any], quiesce: bool = False) -> Snapshot:
    """As :func:`create`."""
    with connection.calls(vm=machine._moId):
        task = machine.CreateSnapshot_Task(name, json.dumps(facts), False, quiesce)
    return Snapshot(connection.wait(task, vm=machine._moId), name, intent, facts)


def remove(connection: Connection, machine: Any, snapshot: Snapshot) -> None:
    """As :func:`remove_ref`."""
    remove_ref(connection, machine, snapshot.ref)


def remove_ref(connection: Connection, machine: Any, ref: Any) -> None:
    """Merge it away; nothing when it is gone. Raises Retry ``source.disk-busy`` while something
    has its disks open."""
    try:
        with connection.calls(vm=machine._moId):
            task = ref.RemoveSnapshot_Task(removeChildren=False, consolidate=True)
        connection.wait(task, vm=machine._moId)
    except GiveUp as error:
        if error.code != "vsphere.object-gone":
            raise


def consolidate(connection: Connection, machine: Any) -> bool:
    """Merge what removed snapshots have left of the machine's disks; whether there was any.
    Raises Retry ``source.disk-busy``."""
    if not connection.read(machine, "runtime.consolidationNeeded").get(
            "runtime.consolidationNeeded"):
        return False
    with connection.calls(vm=machine._moId):
        task = machine.ConsolidateVMDisks_Task()
    connection.wait(task, vm=machine._moId)
    return True
