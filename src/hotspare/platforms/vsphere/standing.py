"""The mark of a failover that stands: a file beside the lineage, since a revert takes back what is
in the machine's configuration.

It is made first and removed last. Its name can be had once, so two failovers of a replica cannot
begin at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ...domain.errors import ForeignChange, GiveUp
from .files import Files

_MARK, _KEPT = "failover", "failover-kept"


@dataclass(frozen=True, slots=True)
class Standing:
    """``was``: what the replica is called when it does not run. ``kept``: it becomes a machine of
    its own, nothing of the replica matters to it any more."""

    intent: str
    number: int
    name: str
    was: str
    kept: bool = False


def read(files: Files) -> Standing | None:
    """Raises ForeignChange ``failover.mark`` when the file is not ours."""
    names = files.names("failover*")
    if _MARK not in names:
        return None
    try:
        found = json.loads(b"".join(files.read(_MARK)))
        return Standing(str(found["intent"]), int(found["number"]), str(found["name"]),
                        str(found["was"]), _KEPT in names)
    except GiveUp as error:
        if error.code == "volume.not-found":    # discarded just now
            return None
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ForeignChange("failover.mark", file=files.path(_MARK)) from error


def write(files: Files, standing: Standing) -> bool:
    """False when there is one."""
    content = json.dumps(asdict(standing)).encode()
    return files.write(_MARK, [content], len(content))


def mark_kept(files: Files) -> None:
    files.write(_KEPT, [b""], 0)


def remove(files: Files) -> None:
    files.delete(_KEPT)
    files.delete(_MARK)
