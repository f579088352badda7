"""Texts of a rule's settings, of groups and templates, and of platforms that change."""

from . import Text

INPUT, MISSING, STATE, UNSUPPORTED = 2, 3, 4, 8

TEXTS: dict[str, Text] = {
    # --- settings ------------------------------------------------------------------------------
    "input.missing": Text("The setting {field} is missing.",
                          "Give it, or use a template that has it.", INPUT),
    "vm.replicated": Text("(replicated) by the rule {rule}"),
    "place.unknown": Text("There is no {kind} {name} on {platform}.", "Known there: {known}.",
                          MISSING),
    "place.which": Text("The platform {platform} has several places of kind {kind}: {known}.",
                        "Choose one of them.", INPUT),
    "rule.temp-dir": Text(
        "{path} is no temporary directory.",
        "Give an absolute path on the DR machine, or none for the machine's own.", INPUT),
    "rule.kinds": Text(
        "Machines of {source} cannot be replicated to {target}.",
        "Choose a target of the kind {source}.", UNSUPPORTED),
    "rule.lan-free-kvm": Text(
        "LAN-free transport is not possible on KVM: disks are read through QEMU, which alone "
        "knows what changed in them.", "Leave LAN-free off.", UNSUPPORTED),
    "rule.rpo-too-small": Text(
        "The schedule leaves up to {gap_s} s between two starts, so an RPO of {rpo_s} s cannot "
        "be kept.", "Choose a larger RPO, or run more often.", INPUT),
    # --- editing -------------------------------------------------------------------------------
    "rule.edited": Text(
        "The rule {name} was edited by somebody else meanwhile; this is revision {revision} now.",
        "Look at it again (hotspare rule show {name}), then edit it.", STATE),
    "rule.placed": Text(
        "The rule {name} has begun to make its replica: {fields} cannot be changed any more.",
        "Delete this rule, with or without its replica, and make a new one for the new place.",
        STATE),
    "rule.machine-moves": Text(
        "The DR machine of a rule is not a setting that is edited.",
        "Run: hotspare rule move {name} --machine MACHINE", INPUT),
    "rule.edited-by": Text("The rule was edited by {user}: {fields}."),
    "rule.twice": Text(
        "Another rule protects the machine {vm} too: two registrations turned out to be one host.",
        "Delete one of the two rules."),
    # --- the temporary directory, looked at by the DR machine ----------------------------------
    "temp-dir.missing": Text(
        "The temporary directory {path} is not there on the DR machine.",
        "Make it (mkdir -p -m 700 {path}), mount it, or choose another one: hotspare rule edit "
        "RULE --temp-dir PATH", MISSING),
    "temp-dir.rights": Text(
        "The DR machine cannot write in the temporary directory {path}: {why}.",
        "Give it to the user that the DR machine's service runs as.", STATE),
    "temp-dir.full": Text(
        "The temporary directory {path} has {free} bytes free; a run needs {needed} for its "
        "change lists and journals.",
        "Make room there, or choose another one: hotspare rule edit RULE --temp-dir PATH", 7),
    # --- groups, templates ---------------------------------------------------------------------
    "group.not-found": Text("There is no group {name}.", "Run: hotspare group list", MISSING),
    "group.exists": Text("There is a group {name} already.", "Choose another name.", STATE),
    "group.twice": Text("The machine {vm} is named twice.", "Name each machine once.", INPUT),
    "template.not-found": Text("There is no template {name}.", "Run: hotspare template list",
                               MISSING),
    "template.exists": Text("There is a template {name} already.",
                            "Choose another name, or delete that one first.", STATE),
    # --- platforms that change -----------------------------------------------------------------
    "platform.address-in-use": Text(
        "Task {task} works with the platform {name} just now.",
        "Change the address when no rule of it runs: stop them, or wait.", STATE),
    "platform.unverified": Text(
        "The address of the platform {name} is not known to lead to the host that its rules were "
        "made for.", "Run: hotspare platform check {name}", STATE),
    "platform.other-host": Text(
        "The address of the platform {name} leads to another host (identity {found}) than its "
        "rules were made for ({known}).",
        "Correct the address: hotspare platform edit {name} --address URI. If that host was "
        "installed anew: hotspare platform edit {name} --accept-host", STATE),
    "queue.platform-unverified": Text(
        "Waits: the address of the platform {host} was changed and has to be checked first."),
}
