"""Scrub: read a disk and compare it with its digests.

A digest proves what was read from the source when the point was made; only reading the target
again proves the target. Used to seal a head anew whose seal is missing, and for scrubs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..domain.extents import Extent, bounded, total
from ..platforms.port import ChangedAreas, Changes, Export, Unknown
from .blocks import to_extents
from .control import Control
from .differ import WRONG, Comparison
from .layers import Layers
from .plan import PassId, plan_disk
from .throttle import Throttle

MOST_MISMATCHES = 1000


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """``mismatches``: sorted whole blocks whose content is not what their digest says, or which
    cannot be read; where they are scattered all over the disk, extents that cover them."""

    bytes_read: int
    mismatches: tuple[Extent, ...]
    wrong: int                      # bytes of the blocks themselves


def verify_disk(export: Export, expected: Layers, key: bytes, control: Control, *, disk: str,
                directory: Path, extents: Iterable[Extent] | None = None,
                throttles: Sequence[Throttle] = (),
                transfer_buffer: int = 4 << 20) -> VerifyResult:
    """Compare ``export`` with what its digests say.

    - ``expected``: of :func:`.layers.folded` over all tables up to the point.
    - ``extents``: what to look at, sorted, read more than once; None: the whole disk. Zero areas
      are not read.
    - ``directory``: for the list of what to read.

    A block that the target's storage fails to read (EIO) again and again is a mismatch. Raises
    Stopped, Reconnect ``target.unreachable``, GiveUp ``target.read-failed``, OutOfSpace.
    """
    changes: Changes = Unknown("verify") if extents is None else ChangedAreas(extents)
    pass_id = PassId("", disk, "verify", expected.size)
    with tempfile.TemporaryDirectory(dir=directory, prefix="verify-") as temporary:
        plan = plan_disk(Path(temporary) / "plan", pass_id=pass_id, export=export,
                         changes=changes, control=control, fresh=False, target_zero=False,
                         expected=expected, side="target")
        found = Comparison(export, plan, expected, key, control, "target", throttles,
                           transfer_buffer, unreadable=WRONG)
        found.run()

    def wrong() -> Iterator[Extent]:
        return to_extents(((r.first, r.blocks) for r in found.marks.runs() if r.state == WRONG),
                          expected.size)

    return VerifyResult(found.bytes_read, bounded(wrong(), expected.size, MOST_MISMATCHES),
                        total(wrong()))
