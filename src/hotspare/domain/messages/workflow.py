"""Texts of what a running task says, and of the errors of workflows and the DR machine."""

from . import Text

TEXTS: dict[str, Text] = {
    # --- errors --------------------------------------------------------------------------------
    "internal.error": Text(
        "Something failed that was not foreseen: {error} (in {where}).",
        "The log of the DR machine has the details; please report it."),
    "task.no-rule": Text("Task {task} names no rule."),
    "task.no-platform": Text("Task {task} names no platform."),
    "platform.unknown-kind": Text("This DR machine has no driver for platforms of kind {kind}.",
                                  exit=8),
    "point.not-usable": Text(
        "Restore point {point} of {rule} cannot be used: it does not exist at the target, or it is "
        "being merged into the next one.",
        "Choose another one: hotspare point list {rule}", exit=4),
    "replicate.instant-lost-again": Text(
        "The consistent instant at the source was lost {passes} times in one task.",
        "See the task's log for the reasons; what was transferred is kept for the next run."),
    "replicate.state-lost": Text(
        "The rule's folder {folder} has lost its state while a task was running.",
        "Start the rule again; the temporary directory must not be cleaned by others."),
    "source.instant-lost": Text(
        "The source has another instant under the name of the one that was being read."),
    "worker.already-running": Text(
        "Another DR machine runs with the state directory {directory}.",
        "End it first, or use another directory.", exit=4),
    "worker.temp-dir": Text(
        "The temporary directory {directory} cannot be used: {error}.",
        "Make it, give this user the right to write there, or name another with --temp-dir.",
        exit=2),
    # --- what a task says ----------------------------------------------------------------------
    "task.retry": Text("Failed with {error}; attempt {turn} follows in {wait_s} s."),
    "task.clean-up-failed": Text(
        "Cleaning up failed with {error}.", "The next run cleans up again."),
    "vm.warning": Text("{warning}"),
    "replicate.continues": Text("Goes on with what task {task} has transferred."),
    "replicate.compare": Text(
        "What changed on disk {disk} cannot be told ({reason}): all of it is read and compared, "
        "and what differs is sent."),
    "replicate.next-pass": Text(
        "Instant {instant} was lost ({reason}). What was transferred is kept; the rest is read "
        "from a newer instant."),
    "replicate.published": Text("Restore point {point} is published."),
    "replica.verifying": Text(
        "The seal of restore point {point} is missing: its content is compared with its digests."),
    "retention.merged": Text("Restore point {point} was merged into the next one."),
    "retention.deferred": Text(
        "{points} restore points are kept, more than the rule says: the older ones are in use."),
    "sweep.source": Text("Removed a leftover at the source: {kind} {name} {error}"),
    "failover.running": Text("The replica runs as {name} from restore point {point}."),
    "failover.undone": Text("The replica is off and its own writes are thrown away."),
    "remove.source-swept": Text("Removed {count} of our objects from the source."),
    "remove.stuck": Text("Some of it cannot be removed: {what}."),
    "remove.source-unclean": Text(
        "The source cannot be cleaned up: {reason}",
        "Mend that, then delete the rule again. If the source is gone for ever: hotspare rule "
        "delete {name} --force. Checkpoints and files whose names begin with {prefix} then stay "
        "there."),
    "remove.target-unclean": Text(
        "The target cannot be cleaned up: {reason}",
        "Mend that, then delete the rule again. If the target is gone for ever: hotspare rule "
        "delete {name} --force. Volumes in {storage} whose names begin with {prefix} then stay "
        "there."),
    "remove.source-left": Text(
        "The source was not cleaned up: {reason} Checkpoints and files there whose names begin "
        "with {prefix} stay until you delete them."),
    "remove.target-left": Text(
        "The target was not cleaned up: {reason} Volumes in {storage} there whose names begin "
        "with {prefix} stay until you delete them, or take the replica over with: hotspare admin "
        "rebuild"),
    "remove.replica-deleted": Text("The replica with its restore points was deleted ({count})."),
    "remove.replica-kept": Text("The replica stays at the target."),
}
