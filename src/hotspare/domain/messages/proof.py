"""Texts of scrubs, damaged points and their repair, compares, and schedules of proofs."""

from . import Text
from .service import INPUT, MISSING, STATE

TEXTS: dict[str, Text] = {
    # --- errors --------------------------------------------------------------------------------
    "point.unreadable": Text(
        "Restore point {number} cannot be opened at the target: {reason}",
        "A file of it is missing or damaged. Choose an older point: hotspare point list RULE",
        STATE),
    "scrub.found-damage": Text(
        "Restore points are damaged at the target: {points} (at most {size} bytes of one). They "
        "are marked, and no failover takes them by itself.",
        "Check the target's storage. The next run makes a point that is right: hotspare rule "
        "start {name}"),
    "rule.point-damaged": Text(
        "Restore point {point} of {name} is damaged.",
        "Choose a good one ({good}), or take it as it is with --damaged.", STATE),
    "rule.all-damaged": Text(
        "All restore points of {name} are damaged.",
        "Make a new one (hotspare rule start {name}), or take a damaged one with --damaged.",
        STATE),
    "proof.not-found": Text("There is no proof schedule {name}.", "Run: hotspare proof list",
                            MISSING),
    "proof.exists": Text("There is a proof schedule named {name} already.",
                         "Choose another name, or change it: hotspare proof edit {name}", STATE),
    "proof.kind": Text("There is no proof of kind {kind}.", "Choose from: {known}.", INPUT),
    "proof.scope": Text("A proof schedule is for one rule, for a group, or for all rules.",
                        "Name a rule or a group, not both.", INPUT),
    # --- what is said --------------------------------------------------------------------------
    "point.damaged": Text(
        "Restore point {point} is damaged: {size} bytes of it are not what was read from the "
        "source, at most."),
    "point.good-again": Text("Restore point {point} is as it should be."),
    "scrub.good": Text("{points} restore points are as they should be; {size} bytes were read."),
    "scrub.point-gone": Text("Restore point {point} was merged into the next one meanwhile."),
    "scrub.unreadable": Text("Restore point {point} cannot be opened: {reason}"),
    "scrub.waits": Text("Waits to read restore point {point}: its files are being written to."),
    "proof.skipped": Text("The schedule {schedule} ({kind}) left this rule out: {reason}."),
    "failover.passed-over": Text(
        "The failover takes point {point}: newer ones are damaged ({points})."),
    "replica.repairing": Text(
        "Restore point {point} was changed at the target ({size} bytes). It is marked as damaged, "
        "and the new point gets that anew from the source."),
    "replicate.mended": Text(
        "Point {point} has {size} bytes anew from the source that were wrong in the one before."),
    "compare.asked": Text("it was asked for"),
    "replicate.compared": Text("All of disk {disk} was compared: tracking had missed nothing."),
    "replicate.compared-untracked": Text(
        "All of disk {disk} was compared; whether tracking missed something cannot be told."),
    "replicate.tracking-lied": Text(
        "Changed-block tracking lied: {size} bytes of disk {disk} differed from the last point "
        "though it had not named them. Point {point} is right; older ones may not be.",
        "Report the versions of QEMU and libvirt to their makers; compare regularly, or switch "
        "fast transfer off for this rule."),
}
