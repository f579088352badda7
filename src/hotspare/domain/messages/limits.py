"""Texts of limits, of what waits for them, and of a DR machine's own file."""

from . import Text

FAILURE, INPUT, MISSING, STATE, AUTH, UNREACHABLE, SPACE, UNSUPPORTED = range(1, 9)

TEXTS: dict[str, Text] = {
    "limits.max-tasks": Text("max_tasks = {value} is not allowed.", "Use 1 to {largest}.", INPUT),
    "limits.per-host": Text("max_tasks_per_host = {value} is not allowed.",
                            "Use 1 to {largest}.", INPUT),
    "limits.per-host-lowered": Text(
        "max_tasks_per_host = {value} is more than any DR machine's max_tasks: {largest} is in "
        "force.",
        "Raise max_tasks of a DR machine, or set max_tasks_per_host to {largest}."),
    "limits.buffer": Text(
        "transfer_buffer = {value} is not allowed with max_tasks = {tasks}.",
        "All tasks together may have 32 MiB in flight to a host: use {smallest} to {largest} "
        "bytes, or fewer tasks.", INPUT),
    "input.bytes": Text("{value} is no number of bytes.",
                        "Use for example 65536, 512KiB, 4MiB.", INPUT),
    "bandwidth.text": Text(
        "{value} is no bandwidth range.",
        "Write DAYS [FROM-TO] LIMIT, for example: mon-fri 09:00-18:00 10MiB, or: daily 0.", INPUT),
    # --- what a queued task waits for; place counts from 1 ---------------------------------------
    "queue.machine-down": Text(
        "Waits: the DR machine {machine} does not answer. Place {place} in its queue.",
        "Start the DR machine's service."),
    "queue.machine-busy": Text(
        "Waits: the DR machine {machine} takes no new task: {reason}. Place {place} in its queue."),
    "queue.machine-full": Text(
        "Waits: the DR machine {machine} runs {limit} tasks already (max_tasks). Place {place} in "
        "its queue."),
    "queue.tests-full": Text(
        "Waits: DR machine {machine} runs {limit} tests already. Place {place} in its queue."),
    "queue.host-full": Text(
        "Waits: {limit} rules run against the host of {host} already (max_tasks_per_host). Place "
        "{place} in its queue."),
    "queue.host-bytes": Text(
        "Waits: {in_flight} bytes may be in flight to the host of {host}, and {limit} is the most. "
        "Place {place} in its queue."),
    "queue.turn": Text(
        "Waits: others that wait longer are next. Place {place} in the queue of {machine}."),
    "worker.temp-dir-full": Text(
        "The temporary directory {directory} has less than {needed} MiB free.",
        "Make room there, or name another one: temp_dir in worker.toml.", SPACE),
    # --- worker.toml -----------------------------------------------------------------------------
    "config.unreadable": Text("The file {path} cannot be read: {why}.", "", INPUT),
    "config.syntax": Text("The file {path} is not right: {why}.",
                          "It is written in TOML; see packaging/worker.toml.example.", INPUT),
    "config.old-name": Text("{path}: {key} has a new name.", "Write {new} instead of {key}.",
                            INPUT),
    "config.unknown": Text("{path}: there is no setting {key}.", "Known: {known}.", INPUT),
    "config.value": Text("{path}: {key} cannot be {value}.",
                         "See packaging/worker.toml.example.", INPUT),
}
