"""Texts of the codes that the service area raises."""

from . import Text

FAILURE, INPUT, MISSING, STATE, AUTH, UNREACHABLE, SPACE, UNSUPPORTED = range(1, 9)

TEXTS: dict[str, Text] = {
    # --- input ---------------------------------------------------------------------------------
    "input.invalid": Text(
        "The request has fields that are not right: {summary}.",
        "Correct the named fields.", INPUT),
    "input.too-large": Text(
        "The request is larger than {largest} bytes.", "Send less at once.", INPUT),
    "input.name-length": Text(
        "The {field} has the wrong length.", "Use 1 to {largest} characters.", INPUT),
    "input.name-characters": Text(
        "The {field} has a character that is not allowed there: {found}.",
        "Use letters, digits, spaces and . _ - ( ), and begin with a letter or a digit.", INPUT),
    "input.name-like-id": Text(
        "The {field} looks like an id (8 hexadecimal digits).", "Choose another one.", INPUT),
    "input.range": Text(
        "The {field} is out of range.", "Use a value from {smallest} to {largest}.", INPUT),
    "input.secret-source": Text(
        "No password was given, and there is no terminal to ask at.",
        "Name a file with {option}, or set {variable}.", INPUT),
    "input.file": Text("The file {path} cannot be read: {why}.", "", INPUT),
    "api.not-found": Text("There is nothing at this address: {path}.",
                          "See /api/v1/openapi.json for what there is.", MISSING),
    "api.method": Text("This address does not know the method {method}.",
                       "See /api/v1/openapi.json for what it knows.", INPUT),
    "api.media-type": Text("The content type of the body is \"{found}\", not application/json.",
                           "Send JSON, with the header Content-Type: application/json.", INPUT),
    "api.unexpected": Text(
        "The server failed unexpectedly (reference {reference}).",
        "Look for the reference in the server's log, and report it.", FAILURE),
    # --- signing in ----------------------------------------------------------------------------
    "auth.required": Text(
        "You are not signed in, or the session has ended.", "Run: hotspare login", AUTH),
    "auth.failed": Text("The user or the password is wrong.", "", AUTH),
    "auth.too-many": Text(
        "There were too many wrong passwords.", "Wait {seconds} seconds.", AUTH),
    "auth.role": Text(
        "{user} is {role}; this needs the role {needed}.", "Ask an administrator.", AUTH),
    "user.exists": Text("There is a user {name} already.", "", STATE),
    "user.not-found": Text("There is no user {name}.", "", MISSING),
    "user.self": Text("You cannot remove yourself.", "Let another administrator do it.", STATE),
    "user.password-length": Text(
        "The password has the wrong length.",
        "Use {smallest} to {largest} characters.", INPUT),
    # --- platforms, machines -------------------------------------------------------------------
    "platform.kind": Text("Platforms of kind {kind} are not supported.",
                          "Supported: {known}.", UNSUPPORTED),
    "platform.address": Text(
        "The address of the platform is not right: {why}.",
        "Use for example qemu+ssh://user@host/system with --option keyfile=/path, "
        "qemu:///system, or https://vcenter.example with --user.", INPUT),
    "platform.exists": Text(
        "The platform is registered already, as {name}.",
        "To change its address or options: hotspare platform edit {name}", STATE),
    "platform.not-found": Text("There is no platform {name}.",
                               "Run: hotspare platform list", MISSING),
    "platform.in-use": Text("The platform {name} is used by rules: {rules}.",
                            "Delete those rules first.", STATE),
    "platform.task-running": Text("A task of this platform is under way.", "Wait until it ended.",
                          STATE),
    "platform.check-failed": Text("The check {check} of the platform failed: {detail}", "",
                                  UNREACHABLE),
    "platform.not-refreshed": Text(
        "What is on the platform {name} has not been read yet.",
        "Run: hotspare platform refresh {name}", STATE),
    "machine.which": Text("Several DR machines are there, or none: {machines}.",
                          "Name one.", INPUT),
    "machine.not-found": Text("There is no DR machine {name}.",
                              "Run: hotspare machine list", MISSING),
    # --- rules ---------------------------------------------------------------------------------
    "rule.not-found": Text("There is no rule {name}.", "Run: hotspare rule list", MISSING),
    "rule.exists": Text("There is a rule named {name} already.", "Choose another name.", STATE),
    "rule.duplicate": Text(
        "The machine {vm} of {platform} is protected already, by the rule {rule}.",
        "Use that rule, or delete it first.", STATE),
    "rule.fields": Text("Several settings are not right: {summary}.", "{help}", INPUT),
    "rule.replica-name-taken": Text(
        "The replica's name {replica} is taken at {platform} (rule: {by}).",
        "Choose another one with --replica-name.", STATE),
    "rule.illegal-transition": Text(
        "A rule that is {state} cannot take the event {event}.", "", STATE),
    "rule.busy": Text(
        "A task of this rule is under way ({kind}).",
        "Wait until it ended, or stop it first: hotspare rule stop", STATE),
    "rule.looked-at": Text(
        "Restore points of rule {name} are being looked at (task {task}, {kind}).",
        "Wait until it ended, or stop it first: hotspare task stop {task}", STATE),
    "rule.in-failback": Text(
        "Rule {name} is in a failback ({state}).",
        "First end it: hotspare failback switch {name}, then commit {name}; or: hotspare failback "
        "undo {name}", STATE),
    "rule.failback-state": Text(
        "The failback of rule {name} is not so far, or farther ({state}).",
        "hotspare rule show {name} says what is possible now.", STATE),
    "rule.no-failback": Text(
        "Rule {name} is in no failback ({state}).",
        "Begin one while it is in temporary failover: hotspare failback start {name}", STATE),
    "rule.not-stoppable": Text(
        "The rule's task ({kind}) cannot be stopped.", "Wait until it ended.", STATE),
    "rule.not-running": Text("The rule {name} is not running, nor is its schedule on.",
                             "To run it: hotspare rule start {name}", STATE),
    "rule.machine-down": Text(
        "The rule's DR machine {machine} does not answer.",
        "Start the DR machine's service, then try again.", STATE),
    "rule.no-point": Text(
        "The rule {name} has no restore point yet.", "Run it first: hotspare rule start {name}",
        STATE),
    "rule.confirm": Text(
        "The name that was given to confirm is not that of the machine which {name} protects.",
        "Give the machine's name, {vm}.", INPUT),
    "rule.point-stands": Text(
        "The rule {name} stands on point {stands}, not on point {point}.",
        "Leave the point out to keep what runs, or undo first: hotspare undo {name}", STATE),
    "rule.not-failed-over": Text("The rule {name} is not in a temporary failover.",
                                 "To run from its replica: hotspare failover {name}", STATE),
    "rule.in-temporary-failover": Text(
        "The rule {name} is in a temporary failover, on point {point}.",
        "Undo it first: hotspare undo {name}", STATE),
    "rule.in-permanent-failover": Text(
        "The rule {name} ended with a permanent failover: its replica is the machine now.",
        "Make a new rule.", STATE),
    "vm.unknown": Text(
        "There was no machine {vm} when the platform {platform} was last read.",
        "If it is new, run: hotspare platform refresh {platform}", MISSING),
    "vm.ambiguous": Text("Several machines of {platform} are named {vm}.",
                         "Name it by its id: hotspare platform vms {platform}", INPUT),
    "vm.unprotectable": Text("The machine {vm} cannot be protected: {reason}", "{help}",
                             UNSUPPORTED),
    "storage.unknown": Text("There is no storage {storage} on {platform}.",
                            "Known there: {known}.", MISSING),
    "storage.unusable": Text("The storage {storage} on {platform} cannot be used: {reason}",
                             "{help}", UNSUPPORTED),
    "network.unusable": Text("The network {network} on {platform} cannot be used: {reason}",
                             "{help}", STATE),
    "network.unknown": Text("There is no network {network} on {platform}.",
                            "Known there: {known}.", MISSING),
    "rule.no-such-point": Text("The rule {rule} has no restore point {point}.",
                            "It has: {known}.", MISSING),
    # --- tasks ---------------------------------------------------------------------------------
    "task.not-found": Text("There is no task {task}.", "Run: hotspare task list", MISSING),
    "task.fenced": Text("Task {task} of epoch {epoch} belongs to another machine now.", "",
                        STATE),
    "task.no-failover": Text("Task {task} ({kind}) cannot move a failover.", "", STATE),
    "task.failed": Text("The task failed.", "Run: hotspare task log {task}", FAILURE),
    "task.ended": Text("The task ended: {outcome}."),
    "rule.created": Text("The rule was made by {user}."),
    # --- server --------------------------------------------------------------------------------
    "store.newer": Text(
        "The database was written by a newer version (schema {revision}).",
        "Install that version again; going back is not supported.", UNSUPPORTED),
    "server.key-readable": Text(
        "Others can read the key file {path}.", "Run: chmod 600 {path}", FAILURE),
    "server.key-missing": Text(
        "The key file {path} is gone, but the database is there.",
        "Bring the key file back from your backup: without it no stored secret can be read.",
        FAILURE),
    "server.key-damaged": Text("The key file has the wrong length.",
                               "Bring it back from your backup.", FAILURE),
    "server.key-wrong": Text("The key file does not fit the stored secret of {owner}.",
                             "Bring the right key file back from your backup.", FAILURE),
    "server.state-dir": Text("The state directory {path} cannot be used: {why}.",
                             "Choose another one with --state-dir.", INPUT),
    "server.running": Text("A server runs on the state directory {path} already.",
                           "Stop it first, or use another --state-dir.", STATE),
    "server.address": Text("The address {listen} cannot be listened at: {why}.",
                           "Choose another one with --listen.", INPUT),
    # --- client --------------------------------------------------------------------------------
    "client.no-server": Text(
        "No server is known.",
        "Run: hotspare login --server https://HOST:8443 --ca FILE, or set HOTSPARE_STATE_DIR on "
        "the server's own machine.", AUTH),
    "client.unreachable": Text("The server {url} cannot be reached: {why}.",
                               "Is it running, and is the address right?", UNREACHABLE),
    "client.untrusted": Text(
        "The server {url} is not the one that is trusted: {why}.",
        "Check the CA file or the fingerprint; the server keeps its CA in STATE_DIR/tls/ca.pem.",
        AUTH),
    "client.answer": Text("The server's answer was not understood (status {status}).",
                          "Is this a Hotspare server of the same version?", FAILURE),
    "client.fingerprint": Text(
        "The fingerprint of the server's CA is {found}, not the one that was given.",
        "Do not go on: ask whoever runs the server for its fingerprint.", AUTH),
}
