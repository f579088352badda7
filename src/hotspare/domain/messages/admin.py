"""Texts of the codes of the database and of its care: backup, restore, move, rebuild."""

from . import Text
from .service import FAILURE, INPUT, MISSING, SPACE, STATE, UNREACHABLE

TEXTS: dict[str, Text] = {
    "store.url": Text(
        "The database's address is not right: {why}.",
        "Use for example postgresql://user@host/name; the password comes from PGPASSFILE, "
        "PGPASSWORD or --database-file.", INPUT),
    "store.unavailable": Text(
        "The database cannot be reached, or broke the connection off: {detail}.",
        "Look at the state of PostgreSQL. What runs goes on, and is stored when it is back.",
        UNREACHABLE),
    "store.shared": Text(
        "Another control server works with the database.",
        "End it first, on whatever host it runs: one control server works with a database.",
        UNREACHABLE),
    "store.busy": Text("All connections to the database are in use.",
                       "Try again in a moment.", UNREACHABLE),
    "store.full": Text(
        "The file system of the database is full: {detail}.",
        "Free some space there. Nothing that was stored is lost.", SPACE),
    "store.trouble": Text(
        "The database's file cannot be used now: {detail}.",
        "Look at its file system, its rights, and what else has it open: hotspare doctor",
        UNREACHABLE),
    "store.file": Text("The database's file {path} cannot be made: {why}.",
                       "Look at the directory and its rights.", INPUT),
    "store.value": Text("The database does not take a value: {detail}.",
                        "Shorten it, or leave out its unusual characters.", INPUT),
    "store.password-in-url": Text(
        "A password in an address on the command line can be read by every user of this machine.",
        "Put the address into a file (--database-file), or the password into ~/.pgpass, "
        "PGPASSFILE or PGPASSWORD.", INPUT),
    "store.moved": Text(
        "This database was left on {when}: everything is in {to} now.",
        "Start with --database. To come back here, restore a backup of it with --force.", STATE),
    "dump.format": Text("The backup was made by a version that this one does not understand.",
                        "Restore it with the version that made it, and upgrade then.", INPUT),
    "dump.incomplete": Text(
        "The rows that were read are not those that were written.",
        "Nothing was changed. Use another backup.", FAILURE),
    "dump.row": Text("The database does not take a row of the table {table}: {detail}.",
                     "Nothing was changed. Report it with this message.", FAILURE),
    "backup.exists": Text("The file {path} is there already.",
                          "Choose another name, or add --force.", STATE),
    "backup.file": Text("The file {path} cannot be read or written: {why}.", "", INPUT),
    "backup.format": Text("The file is no backup of Hotspare.", "", INPUT),
    "backup.passphrase": Text("The passphrase is wrong, or the file is damaged.", "", INPUT),
    "backup.passphrase-short": Text("The passphrase is too short.",
                                    "Use at least {smallest} characters.", INPUT),
    "backup.damaged": Text("The backup is damaged or cut off.",
                           "Nothing was changed. Use another one.", FAILURE),
    "care.no-database": Text(
        "There is no database in {path}, or it is empty.",
        "Name the state directory with --state-dir, or the database with --database.", MISSING),
    "care.damaged": Text(
        "The database cannot be used: {detail}.",
        "Move it away (hotspare.db with its -wal and -shm), then restore a backup.", FAILURE),
    "restore.not-empty": Text("The database holds something already.",
                              "To replace all of it, add --force.", STATE),
    "restore.in-use": Text("A control server works with the database.",
                           "Stop it first, on whatever host it runs.", STATE),
    "migrate.same": Text("This is the database that is in use.", "Name another one.", INPUT),
    "task.restored": Text(
        "The task ran when the backup was made that the database was restored from.",
        "What it left is found and cleaned up by the next run.", FAILURE),
    "rebuild.key-wrong": Text(
        "None of the {count} replicas was written with this server's key.",
        "Bring secret.key back from a backup (hotspare admin restore), then run this again. Or "
        "they belong to another Hotspare.", STATE),
    "rebuild.storage-skipped": Text("The storage {storage} cannot be read: {reason}.",
                                    "Bring it back and run this again.", FAILURE),
    "rebuild.deleted": Text("The replica of the rule {rule} was left when the rule was deleted."),
    "rebuild.unreadable": Text(
        "The replica of the rule {rule} in the storage {storage} cannot be read ({error}): "
        "{detail}", "", FAILURE),
    "rebuild.empty": Text("The replica of the rule {rule} has no restore point."),
    "rebuild.third": Text(
        "The replica of the rule {rule} is another one of the machine {vm}, which {other} "
        "protects. No rule was made for it.",
        "Delete the older rules of the machine first, then run this again.", STATE),
    "rebuild.made": Text(
        "The rule was rebuilt from the {points} restore points at its target. Its schedule, limits "
        "and networks are not known: it is stopped, and they have their defaults.",
        "Look through its settings, then start it."),
    "rebuild.no-source": Text(
        "No registered platform has the machine {vm}. Failing over works; replicating does not.",
        "Register the source and refresh it, then rebuild again."),
    "rebuild.twice": Text(
        "The machine {vm} is protected by the rule {other}, whose replica is newer. Failing over "
        "to this one works; replicating does not.", "Delete this rule when it is not needed."),
    "rebuild.elsewhere": Text(
        "The storage {storage} has a copy of the rule's replica; it was not looked at."),
    "rebuild.busy": Text(
        "A task of the rule was under way, so its replica was not read.",
        "Run hotspare admin rebuild again when it has ended.", STATE),
    "rebuild.adopted": Text(
        "The target has newer restore points than the database: {found} instead of {known}."),
    "rebuild.standing": Text("The replica runs as {name}, on the restore point {point}."),
    "rebuild.source-found": Text("The machine is on the platform {platform}."),
    "rebuild.unknown-source": Text(
        "It is not known where the machines of these rules are.",
        "Register the source and refresh it, then rebuild the target again.", STATE),
}
