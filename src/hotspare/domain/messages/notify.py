"""Texts of notifications, and of the errors of their channels."""

from . import Text
from .service import INPUT, MISSING, STATE, UNREACHABLE

TEXTS: dict[str, Text] = {
    # --- errors --------------------------------------------------------------------------------
    "notify.not-found": Text("There is no notification channel {name}.",
                             "Run: hotspare notify list", MISSING),
    "notify.exists": Text("There is a notification channel named {name} already.",
                          "Choose another name, or change it: hotspare notify edit {name}", STATE),
    "notify.scheme": Text("Notifications cannot be sent to an address of this kind.",
                          "It must begin with one of these, and ://: {known}.", INPUT),
    "notify.parameter": Text(
        "An address of the kind {scheme} cannot have the parameter {name} here.",
        "Allowed: {known}.", INPUT),
    "notify.address": Text(
        "The address of the channel is no address of the kind {scheme}.",
        "See docs/user/notifications.md for an example of each kind.", INPUT),
    "notify.clear": Text(
        "The address holds a secret, and {scheme}:// would send it in clear.",
        "Use the encrypted form of the kind ({scheme}s://).", INPUT),
    "notify.courier": Text(
        "The program that sends notifications failed ({why}).",
        "Is the package apprise installed, and is there memory?", UNREACHABLE),
    # --- events --------------------------------------------------------------------------------
    "rule.run-failed": Text("Task {task} ({kind}) of the rule {rule} failed."),
    "rule.test-failed": Text(
        "Restore point {point} of the rule {rule} did not pass its test (task {task}).",
        "See the test's checks and screenshot: hotspare test list {rule}"),
    "rule.tracking-lied": Text(
        "A compare of the rule {rule} found {size} bytes that changed-block tracking had missed.",
        "See the log of task {task}: hotspare task log {task}"),
    "machine.lost": Text(
        "The DR machine {machine} does not answer; the rules that it works for ({rules}) show "
        "invalid.",
        "Look whether the machine and its service run: hotspare machine list"),
    "machine.back": Text("The DR machine {machine} answers again."),
    # --- how they are told ---------------------------------------------------------------------
    "notify.title-run-failed": Text("Run failed"),
    "notify.title-test-failed": Text("Restore point failed its test"),
    "notify.title-rpo-violated": Text("RPO not kept"),
    "notify.title-unexpected-full": Text("Full copy that was not expected"),
    "notify.title-tracking-lied": Text("Changed-block tracking lied"),
    "notify.title-both-run": Text("Source and replica both run"),
    "notify.title-damaged": Text("Restore points damaged"),
    "notify.title-lost": Text("DR machine lost"),
    "notify.title-back": Text("DR machine back"),
    "notify.title-test": Text("Test"),
    "notify.test": Text("This is a test of the channel {name}, asked for by {user}."),
    "notify.many": Text("{count} times, from {first} to {last}."),
    "notify.others": Text("And {count} more:"),
    "notify.time": Text("Time: {time}"),
    "notify.rule": Text("Rule: {rule}, DR machine: {machine}"),
    "notify.cause": Text("Cause: {cause}"),
    "notify.remedy": Text("Remedy: {remedy}"),
    "notify.more": Text("See more: {command}"),
    # --- the log -------------------------------------------------------------------------------
    "notify.given-up": Text(
        "{count} notifications for the channel {name} were given up after a day: {why}",
        "Mend the channel, then: hotspare notify test {name}"),
}
