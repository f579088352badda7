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
    "failover.not-standing": Text(
        "No failover of {name} stands at the target any more.",
        "Look at the target; then undo the failover.", exit=4),
    "failover.copy-ended": Text(
        "The copy of disk {disk} of {vm} ended before it was complete. The machine runs as before.",
        "See the log of the target's QEMU for the reason (often a full storage), then try again.",
        exit=1),
    "failover.source-runs": Text(
        "{vm} still runs at the source, and its replica has the same addresses ({macs}) on a "
        "network that others can reach.",
        "Shut the source down (hotspare failover {name} --planned does, and loses nothing), or "
        "start with --unplugged, or, where both may run, with --allow-duplicate-mac.", exit=4),
    "failover.source-running": Text(
        "The machine still runs at the source: there are two of it now.",
        "Shut the one down that is not wanted."),
    "failover.source-paused": Text(
        "The machine is paused at the source, and may go on there.",
        "Shut it down before that."),
    "failover.source-off": Text("The machine is off at the source."),
    "failover.source-unknown": Text(
        "The source does not answer, or does not know the machine: it may still run there.",
        "See to it that it does not come back beside its replica."),
    "source.in-use": Text(
        "{name} is not failed over: {vm} is the machine that works.",
        "Its network can be taken away while the replica runs.", exit=4),
    "source.unplugged": Text("The network cables of {vm} are out at the source."),
    "source.plugged": Text("The network cables of {vm} are in again at the source."),
    "rule.both-run": Text(
        "{vm} runs at the source again, beside its replica: there are two of it.",
        "Shut down the one that is not wanted: {vm} at its host, or the replica with hotspare undo "
        "{name} (what it wrote is thrown away). Until then the source can be taken off its "
        "network: hotspare source unplug {name}"),
    "rule.both-run-over": Text("{vm} is off at the source."),
    "source.still-runs": Text(
        "{vm} has not shut down within {grace_s} seconds.",
        "Look at its console. Give it longer (--grace), or allow its power to be cut "
        "(--power-off).", exit=4),
    "planned.source-off": Text("{vm} is shut down at the source."),
    "planned.ended-sync": Text(
        "The planned failover ended in its first run. {vm} runs at the source as before.",
        "See the error of the task; then: hotspare failover {name} --planned"),
    "planned.ended-shut-down": Text(
        "The planned failover ended since {vm} did not shut down. It was asked to, and may still "
        "do so. The replica was not started.",
        "Look at the console of {vm}; then: hotspare failover {name} --planned"),
    "planned.ended-last-sync": Text(
        "The planned failover ended in its last run. {vm} is off at the source, and the replica "
        "was not started.",
        "See the error of the task; then go on: hotspare failover {name} --planned; or go back: "
        "start {vm} at the source."),
    "planned.ended-failover": Text(
        "The planned failover ended as the replica was started. {vm} is off at the source, and "
        "all that it wrote is in the newest restore point.",
        "See the error of the task; then go on: hotspare failover {name}; or go back: start {vm} "
        "at the source."),
    "permanent.kept": Text(
        "The disks of {name} are files of its own now: nothing of the replica lies below them."),
    "permanent.points-deleted": Text("The restore points were deleted ({count})."),
    "permanent.points-stay": Text(
        "The restore points could not be deleted: {reason} The machine does not need them.",
        "Delete what begins with {prefix} in storage {storage}."),
    "permanent.done": Text("{name} is a machine of its own. The rule is closed."),
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
