"""Texts of tests of restore points: their verdicts, and what each check found."""

from . import Text
from .service import INPUT, MISSING, STATE

TEXTS: dict[str, Text] = {
    # --- errors --------------------------------------------------------------------------------
    "test.not-found": Text("There is no test {test}.", "Run: hotspare test list", MISSING),
    "test.no-screenshot": Text("Test {test} has no screenshot.", "", MISSING),
    "test.address": Text("{address} is no IPv4 address with its prefix.",
                         "For example 192.0.2.10/24.", INPUT),
    "test.failed": Text(
        "The copy of restore point {point} of {rule} did not pass its test: {reason}.",
        "Look at its screen: hotspare test list {rule}. Test an older point, and see whether the "
        "machine itself still boots."),
    "test.interrupted": Text(
        "The copy {name} was switched off by somebody else, or its host was: nothing can be said.",
        "Test again."),
    "task.not-stoppable": Text(
        "Task {task} ({kind}, {state}) cannot be stopped by its number.",
        "Stop its rule: hotspare rule stop", STATE),
    "screen.format": Text("The platform's screenshot is in a format that is not known ({reason})."),
    # --- what a task says ----------------------------------------------------------------------
    "test.passed": Text("Restore point {point} of {rule} passed its test."),
    "test.unproven": Text(
        "The copy of restore point {point} of {rule} did nothing wrong, and nothing showed that it "
        "has booted.",
        "Look at its screen, or name a check: --check text=…, heartbeat, ping, tcp=PORT."),
    "sweep.test": Text("Removed what an earlier test left: {kind} {name}"),
    "sweep.test-stays": Text("What the test {name} left cannot be removed: {reason}"),
    # --- checks --------------------------------------------------------------------------------
    "test.isolated": Text("The copy ran on a network of its own."),
    "test.unplugged": Text(
        "The cables were out, since the target cannot make an isolated network ({reason})."),
    "test.heartbeat": Text("The guest's agent answered."),
    "test.no-heartbeat": Text("The guest's agent did not answer"),
    "test.no-agent": Text("Not checked: the machine has no agent."),
    "test.text-seen": Text("The screen showed: {text}"),
    "test.text-missing": Text("The screen never showed as text: {text}"),
    "test.screen-lives": Text("The screen was not blank, and changed. {line}"),
    "test.screen-blank": Text("The screen was blank"),
    "test.screen-still": Text("The screen never changed. {line}"),
    "test.screen-no-boot": Text("The screen says that it did not boot ({words})"),
    "test.no-screen": Text("Not checked: the machine has no screen."),
    "test.ping": Text("{address} answered."),
    "test.no-ping": Text("No address of the copy answered a ping"),
    "test.tcp": Text("{address} took a connection on port {port}."),
    "test.no-tcp": Text("No address of the copy took a connection on port {port}"),
    "test.not-near": Text(
        "Not checked: the isolated network is on the target's host, and the DR machine is not."),
    "test.no-network": Text(
        "Not checked: there was no isolated network to reach it by ({reason})."),
    "test.shut-down": Text("The copy shut itself down"),
    "test.crashed": Text("The copy crashed"),
}
