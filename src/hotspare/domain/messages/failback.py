"""Failback: from the replica back to the source."""

from __future__ import annotations

from typing import Final

from . import Text

STATE: Final = 4

TEXTS: Final[dict[str, Text]] = {
    "failback.source-runs": Text(
        "{vm} runs at the source, and its disks are about to be overwritten.",
        "Shut it down, or let the failback do it: hotspare failback start {name} --shut-down",
        STATE),
    "failback.disks-differ": Text(
        "The two machines do not have the same disks. Only the source has: {source}. Only the "
        "replica has: {replica}.",
        "Add or remove disks until they match, or leave these as they are with --leave-disks: "
        "what the replica wrote to a disk of its own then does not come back.", STATE),
    "failback.compare": Text(
        "The whole disk {disk} of the source is read: what changed there cannot be told "
        "({reason})."),
    "failback.pass": Text(
        "A pass has ended, in which {moved} bytes were sent: source and replica are equal as of "
        "its beginning."),
    "failback.replica-off": Text("The replica {name} is off."),
    "replica.still-runs": Text(
        "The replica {name} has not shut down within {grace_s} seconds. It was asked to, and may "
        "still do so.",
        "Look at its console. Give it longer (--grace), or allow its power to be cut "
        "(--power-off).", STATE),
    "failback.replica-runs": Text(
        "The replica {name} was started while the rest was copied. The source was not started.",
        "Do not start it by hand. Then switch again: hotspare failback switch", STATE),
    "failback.source-runs-again": Text(
        "{vm} runs at the source again; neither ran for {seconds} seconds. Nothing is lost until "
        "the failback is committed.",
        "Look at it, then: hotspare failback commit {name}; or: hotspare failback undo {name}"),
    "failback.replica-again": Text("The replica {name} runs again."),
    "failback.source-unknown": Text(
        "The switch back failed, and the source does not answer ({reason}): it may run, so the "
        "replica {name} was left off.",
        "See to it that the source answers. Then switch again (hotspare failback switch) or undo "
        "(hotspare failback undo), which starts the replica."),
    "failback.source-on-after-all": Text(
        "The switch back failed, and {vm} runs at the source: the replica was left off.",
        "Undo the failback (hotspare failback undo), which starts the replica."),
    "failback.restored": Text(
        "The source's disks are what they were before the failback ({vm})."),
    "failback.undone": Text(
        "The failback is undone: {vm} is off at the source, as it was, and the replica runs."),
    "failback.demolished": Text(
        "The failback is undone: {vm} at the new place is removed, and the replica runs."),
    "failback.done": Text("The failback is committed. {vm} is replicated from the source again."),
    "failback.commit-due": Text("The time of the failback of {name} has come: it is committed."),
    "failback.is-committed": Text(
        "The failback of {name} is being committed: it cannot be undone any more.",
        "Let it end: hotspare failback commit {name}", STATE),
    "failback.built": Text("{name} is made in storage {storage}, with empty disks."),
    "failback.moved": Text("The rule protects {vm} at its new place from now on."),
    "failback.place-stands": Text(
        "The failback of {name} has begun, and not to this place.",
        "Undo it first (hotspare failback undo {name}), then begin again.", STATE),
    "failback.other-kind": Text(
        "{name} replicates from {source} to {target}: the way back from there is not there yet.",
        "Make the failover permanent (hotspare permanent), and protect the machine by a rule of "
        "its own.", 8),
    "failback.place-kind": Text(
        "{name} is a platform of kind {kind}, on which the replica cannot be run.",
        "Name a platform of the replica's kind.", 8),
    "failback.undo-first": Text(
        "The source has run since the switch of {name}: what it wrote must not be taken for what "
        "was there before.",
        "Undo the failback first (hotspare failback undo {name}), then begin again.", STATE),
    "failback.confirm-undo": Text(
        "What {vm} wrote since the switch would be lost: that has to be confirmed "
        "with its name.",
        "Give it: hotspare failback undo {name} --confirm {vm}", 2),
    "failback.write-failed": Text(
        "Writing {length} bytes at offset {offset} of the source's disk {disk} failed: {error}.",
        "Check the storage of the source. The replica runs or can run; go on or undo: hotspare "
        "failback"),
    "failback.no-space": Text(
        "The source's storage is full: disk {disk} could not be written at offset {offset}.",
        "Free space there, then go on: hotspare failback start. What was overwritten is put "
        "aside and can be undone.", 7),
    "task.no-failback": Text("Task {task} ({kind}) is no part of a failback."),
}
