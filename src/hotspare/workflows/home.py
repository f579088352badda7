"""What the first run after a failback has to look at: where the source, which is now what the
replica was, may differ from the newest restore point.

The source's tracking tells that only when it outlived what made one fail over. So the failback
notes it in the rule's folder: in ``DISK.home`` what the replica wrote, and what lies between the
point that it stood on and the newest one; in ``home.json`` since when the source tracks what it
writes itself. Without them the run compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dataplane.blocks import to_extents
from ..dataplane.files import replacing
from ..dataplane.plan import PassId, Plan, PlanRun, write_plan
from ..domain.codec import decode, encode
from ..domain.extents import BLOCK, Extent, round_out, union

_NAME = "home.json"


@dataclass(frozen=True, slots=True)
class Home:
    head: int                       # the newest restore point as of the switch
    token: dict[str, Any]           # what the source wrote since counts from it


def note(folder: Path, rule: str, disk: str, size: int, *areas: Iterable[Extent]) -> None:
    """These areas of a disk may differ, and no others."""
    runs = (PlanRun(e.offset // BLOCK, -(-e.length // BLOCK), False)
            for e in round_out(union(*areas), size))
    write_plan(_path(folder, disk), PassId(rule, disk, "home", size), runs, fresh=False,
               target_zero=False)


def noted(folder: Path, disk: str, size: int) -> Iterator[Extent]:
    """What was noted of a disk, which may have another size now."""
    if not is_noted(folder, disk):
        return
    for run in Plan(_path(folder, disk)):
        yield from to_extents([(run.first, run.blocks)], size)


def is_noted(folder: Path, disk: str) -> bool:
    return _path(folder, disk).exists()


def ready(folder: Path, home: Home) -> None:
    """The notes are whole, and hold from now on."""
    with replacing(folder / _NAME) as out:
        out.write(json.dumps(encode(home)).encode())


def load(folder: Path, head: int | None) -> Home | None:
    """The notes, if ``head`` is still the newest restore point."""
    try:
        home = decode(Home, json.loads((folder / _NAME).read_text()))
    except (OSError, ValueError):
        return None
    return home if home.head == head else None


def forget(folder: Path) -> None:
    (folder / _NAME).unlink(missing_ok=True)
    for path in folder.glob("*.home"):
        path.unlink(missing_ok=True)


def _path(folder: Path, disk: str) -> Path:
    return folder / f"{disk}.home"
