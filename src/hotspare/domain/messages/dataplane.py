"""Texts of the codes that the dataplane area raises."""

from . import Text

TEXTS: dict[str, Text] = {
    "task.stopped": Text(
        "The task was stopped by an operator.",
        "Start the rule again when wanted: it goes on from what was already transferred."),
    "source.unreachable": Text(
        "The connection to the source's disk {disk} broke and could not be made again: {reason}.",
        "Check the network to the source host and that the host is up; the task goes on from "
        "where it was when it is started again.", 6),
    "target.unreachable": Text(
        "The connection to the target's disk {disk} broke and could not be made again: {reason}.",
        "Check the network to the target host and that the host is up; the task goes on from "
        "where it was when it is started again.", 6),
    "source.read-failed": Text(
        "Reading {length} bytes at offset {offset} of disk {disk} failed at the source: {error}.",
        "Check the storage of the source machine: the host reports a read error there too."),
    "target.read-failed": Text(
        "Reading {length} bytes at offset {offset} of disk {disk} failed at the target: {error}.",
        "Check the target storage. The restore point may be damaged: keep the others."),
    "target.write-failed": Text(
        "Writing {length} bytes at offset {offset} of disk {disk} failed at the target: {error}.",
        "Check the target storage and its permissions. Published restore points are untouched."),
    "target.no-space": Text(
        "The target storage is full: disk {disk} could not be written at offset {offset}.",
        "Free space on the target storage or keep fewer restore points, then start the rule "
        "again. Published restore points are untouched.", 7),
    "machine.no-space": Text(
        "The DR machine's temporary directory is full: {path}.",
        "Free space there or choose another temporary directory in the rule.", 7),
    "source.too-small": Text(
        "The source's disk {disk} has {size} bytes where {expected} were expected.",
        "The disk was made smaller while it was read. Start the rule again."),
    "target.too-small": Text(
        "The target's disk {disk} has {size} bytes where {expected} are needed.",
        "Somebody changed the replica's disk. Start the rule again; remove the replica and "
        "replicate anew when this stays."),
    "disk.too-large": Text(
        "The disk has {size} bytes; at most {limit} are supported.",
        "Split the disk, or exclude it from replication.", 8),
    "nbd.block-status": Text(
        "The list of used or changed blocks ({context}) could not be read at offset {offset}: "
        "{error}.",
        "Check the storage of the source machine; start the rule again."),
    "tracking.context-missing": Text(
        "The source does not offer its change tracking ({context}).",
        "Nothing to do: the next run compares the disk by digests and repairs the tracking."),
    "plan.damaged": Text(
        "The changed-block list {path} is damaged.",
        "Check the DR machine's disk. The next run makes a new list."),
    "journal.damaged": Text(
        "The transfer journal {path} is damaged.",
        "Check the DR machine's disk. The next run begins the transfer anew."),
    "journal.other-pass": Text(
        "The transfer journal {path} belongs to {found}, not to {expected}.",
        "Nothing was changed. Report this: a journal must never be used for another instant."),
    "journal.incomplete": Text(
        "The transfer of disk {disk} is not complete, so no restore point may be made of it.",
        "Start the rule again: it transfers the rest."),
    "digests.damaged": Text(
        "The digest table {path} is damaged.",
        "The next run reads the whole disk and makes a new table."),
}
