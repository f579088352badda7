"""Texts of statistics: missed objectives, full copies that were not expected, files."""

from . import Text

TEXTS: dict[str, Text] = {
    "input.file-write": Text("The file {path} cannot be written: {why}.", exit=2),
    "rule.rpo-violated": Text(
        "The newest restore point {point} is {age_s} s old; it should never be older than "
        "{target_s} s.",
        "See why runs fail, wait or take long: hotspare task list --rule RULE"),
    "rule.rpo-kept": Text(
        "The recovery point objective is kept again: restore point {point} is {age_s} s old, of "
        "{target_s} s allowed."),
    "rule.unexpected-full": Text(
        "This run read a whole disk although its changes since the last restore point should "
        "have been known ({reason}).",
        "Nothing is lost, and only what differs was sent. The next run should be incremental "
        "again."),
    "rule.unexpected-full-again": Text(
        "This is run number {runs} in a row that read a whole disk ({reason}): changed-block "
        "tracking does not work for this rule.",
        "Look for leftover checkpoints and for another backup tool at the source, and see the "
        "rule's log."),
}
