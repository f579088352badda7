"""Bit rot: bytes of an image file change beneath QEMU, which does not notice."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = 64 * 1024


@dataclass(frozen=True)
class Piece:
    """Data of a qcow2 file itself, not of what lies below: where the guest sees it, and where it
    is in the file; bytes."""

    start: int
    length: int
    offset: int


def own_data(image: Path) -> list[Piece]:
    done = subprocess.run(["qemu-img", "map", "-U", "--output=json", str(image)],
                          check=True, capture_output=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return [Piece(x["start"], x["length"], x["offset"]) for x in found
            if x["depth"] == 0 and x["data"] and "offset" in x]


def blocks(image: Path) -> dict[int, int]:
    """Offset in the file by block of the disk, of whole blocks that the file has itself."""
    return {at // BLOCK: piece.offset + at - piece.start
            for piece in own_data(image)
            for at in range(-(-piece.start // BLOCK) * BLOCK,
                            piece.start + piece.length - BLOCK + 1, BLOCK)}


def rot(image: Path, offset: int, length: int = 16) -> None:
    """Turn bits of the file around."""
    with image.open("r+b") as file:
        file.seek(offset)
        old = file.read(length)
        file.seek(offset)
        file.write(bytes(b ^ 0xFF for b in old))
