"""Texts of the fleet: DR machines, their enrolment and link, rules that move."""

from . import Text

FAILURE, INPUT, MISSING, STATE, AUTH, UNREACHABLE, SPACE, UNSUPPORTED = range(1, 9)

TEXTS: dict[str, Text] = {
    # --- enrolment -----------------------------------------------------------------------------
    "enrolment.invalid": Text(
        "The enrolment code is not known, was used already, has expired, or is for another name "
        "than {name}.",
        "Ask an administrator for a new one: hotspare machine enrol {name}", AUTH),
    "enrolment.code": Text(
        "This is no enrolment code.",
        "Use the whole line that this command prints: hotspare machine enrol NAME", INPUT),
    "enrolment.missing": Text(
        "This DR machine is not enrolled: {directory} holds no token.",
        "Run once with --server URL --enrol CODE --name NAME; an administrator makes the code with "
        "hotspare machine enrol NAME", INPUT),
    "machine.own-process": Text(
        "The DR machine {name} is part of the control server's own process.",
        "Choose another name.", STATE),
    "machine.in-use": Text(
        "The DR machine {name} still has work: {what}.",
        "Move its rules and platforms to another one: hotspare rule move RULE --machine NAME, "
        "hotspare platform move PLATFORM --machine NAME", STATE),
    "machine.not-live": Text(
        "The DR machine {name} does not answer.", "Start its service, then try again.", STATE),
    # --- link ----------------------------------------------------------------------------------
    "link.token": Text(
        "The control server does not know this DR machine's token, or an administrator revoked "
        "it.",
        "Enrol the machine again: hotspare machine enrol NAME on the server, then hotspare worker "
        "--enrol CODE here.", AUTH),
    "link.twice": Text(
        "Another process speaks for the DR machine {name}, from {address}: one of the two runs on "
        "a copy of its state directory.",
        "End the copy and delete its state directory. To make it a DR machine of its own, enrol it "
        "under another name: hotspare machine enrol NAME", AUTH),
    "link.address": Text(
        "{url} is not the address of a control server.", "Use --server https://HOST:8443.", INPUT),
    "link.name": Text(
        "The control server's certificate is not for the name in {url}: {why}.",
        "Use one of its names, or start the server with --name HOST as well.", INPUT),
    "link.untrusted": Text(
        "{url} is not the control server that this DR machine was enrolled at: {why}.",
        "Is the address right? If the server was set up anew, enrol this machine again.", AUTH),
    "link.too-old": Text(
        "This DR machine speaks version {found} of the link; the control server needs {oldest} "
        "to {newest}.",
        "Upgrade Hotspare on this DR machine."),
    "link.too-new": Text(
        "This DR machine speaks version {found} of the link; the control server needs {oldest} "
        "to {newest}.",
        "Upgrade the control server first, then its DR machines."),
    "link.away": Text("The control server {url} does not answer: {why}.",
                      "Running transfers go on; the connection is tried again by itself.",
                      UNREACHABLE),
    "server.stopping": Text("The control server is about to end.", "Try again in a moment.",
                            UNREACHABLE),
    "worker.outbox": Text(
        "The reports of running tasks cannot be written to {path}: {why}.",
        "Make room there; the tasks wait and then go on by themselves.", SPACE),
    "worker.state-dir-full": Text(
        "The state directory {directory} has less than {needed} MiB free.", "Make room there.",
        SPACE),
    "worker.temp-dir-shared": Text(
        "Another DR machine works in the temporary directory {path}.",
        "Give each its own: temp_dir in worker.toml, or --temp-dir.", STATE),
    "link.too-large": Text(
        "The report {call} has {size} bytes, and the control server takes {largest}.",
        "Does the platform list more machines than one control server is made for?", UNSUPPORTED),
    "link.unheard": Text(
        "The control server does not answer, and it has to know of this step before it is taken.",
        "See to it that this DR machine reaches the control server.", UNREACHABLE),
    "points.unknown": Text(
        "The control server does not know restore point {number} by what the DR machine told it"
        " before.", "It is told whole with the next report.", INPUT),
    "link.call": Text("The report {call} is not known.", "", INPUT),
    "link.report-refused": Text(
        "The control server refused the report {call} of task {task}: {error}"),
    "machine.clock": Text(
        "The clock of the DR machine {machine} is {offset} s off the control server's.",
        "Let both keep their time with NTP (chrony, systemd-timesyncd)."),
    # --- rules that move -----------------------------------------------------------------------
    "rule.moved": Text("The rule was moved to the DR machine {machine}; it goes on there."),
    "rule.move-same": Text("The rule {name} is with the DR machine {machine} already.", "", STATE),
    "platform.moved": Text("The platform is asked from the DR machine {machine} now."),
    # --- local socket --------------------------------------------------------------------------
    "local.no-socket": Text(
        "No DR machine of this host answers at {path}: {why}.",
        "Is its service running? Name its socket with --socket STATE_DIR/worker.sock.",
        UNREACHABLE),
}
