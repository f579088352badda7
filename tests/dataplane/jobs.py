"""Plans and jobs as the workflow makes them, in one line each."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

from hotspare.dataplane.control import Control
from hotspare.dataplane.digests import digest_key
from hotspare.dataplane.engine import CopyJob
from hotspare.dataplane.journal import Journal
from hotspare.dataplane.layers import Layers
from hotspare.dataplane.plan import PassId, Plan, plan_disk
from hotspare.domain.extents import BLOCK, Extent
from hotspare.platforms.port import ChangedAreas, Changes, Export, Unknown

KEY = digest_key(b"k" * 32)
MIB = 1 << 20


def pass_id(size: int, disk: str = "vda", instant: str = "hs-0123abcd-e1-t1-i1") -> PassId:
    return PassId("0123abcd", disk, instant, size)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def sparse_file(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
    return path


def make_plan(directory: Path, export: Export, size: int, *, changes: Changes | None = None,
              disk: str = "vda", instant: str = "hs-0123abcd-e1-t1-i1", fresh: bool = True,
              target_zero: bool = True, **more: Any) -> Plan:
    return plan_disk(directory / f"{disk}.{instant}.plan", pass_id=pass_id(size, disk, instant),
                     export=export, changes=changes or Unknown("test"), control=Control(),
                     fresh=fresh, target_zero=target_zero, **more)


def make_job(plan: Plan, source: Export, target: Export, **more: Any) -> CopyJob:
    journal = Journal(plan.path.with_suffix(".journal"), plan.id)
    return CopyJob(source, target, plan, journal, KEY, **more)


def areas(*pairs: tuple[int, int]) -> ChangedAreas:
    return ChangedAreas([Extent(o, n) for o, n in pairs])


def model_digests(data: bytes, key: bytes = KEY) -> list[bytes]:
    """Digests computed without the code under test."""
    from blake3 import blake3

    blocks = [data[at:at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, len(data), BLOCK)]
    return [bytes(16) if not any(b) else blake3(b, key=key).digest(length=16) for b in blocks]


def held(layers: Layers) -> list[bytes]:
    raw = layers.digests(0, layers.count)
    return [raw[at:at + 16] for at in range(0, len(raw), 16)]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
