"""The lineage disk: two slots that are written in turn, so that one is always whole.

A slot, big-endian, at ``(sequence % 2) * SLOT_BYTES`` of a raw volume::

    0   8  magic "HSLINEA1"
    8   8  sequence
    16  8  length of the body in bytes
    24  32 BLAKE3 of bytes 0-24 and the body       tells a torn write
    56  32 keyed BLAKE3 of the same                tells a forged one
    88     body: zlib of the JSON of domain.lineage.Lineage

The key of the MAC is derived from the rule's own, so that no other use of that key can make a
lineage. Nothing here does I/O: the caller brings the bytes.
"""

from __future__ import annotations

import hmac
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from blake3 import blake3

from ..domain.codec import decode, encode
from ..domain.errors import ForeignChange, GiveUp
from ..domain.lineage import Lineage

SLOT_BYTES = 4 * 1024 * 1024
"""100 points with 3 disks and whole VM models take some 60 KiB; the volume is sparse."""
DISK_BYTES = 2 * SLOT_BYTES
ALIGN = 4096
"""Bytes that a write is padded to: the largest sector size that a file system may insist on."""
FIRST_READ = 64 * 1024
"""Bytes read of each slot at first; most lineages need no second read."""

_MAGIC = b"HSLINEA1"
_HEAD = struct.Struct(">8sQQ")
_BODY_AT = _HEAD.size + 64
_JSON_MAX = 256 * 1024 * 1024
"""A body that unpacks to more is refused (it would have to be authentic, too)."""

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: exactly that many bytes of the lineage disk."""

State = Literal["empty", "torn", "valid"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as found. ``lineage`` only when it is valid."""

    state: State
    lineage: Lineage | None = None


def _mac_key(key: bytes) -> bytes:
    return blake3(key, derive_key_context="hotspare 2026 lineage disk MAC").digest()


def slot_offset(sequence: int) -> int:
    """Where a lineage of ``sequence`` is written, in bytes."""
    return sequence % 2 * SLOT_BYTES


def encode_slot(lineage: Lineage, key: bytes) -> bytes:
    """The bytes to write at :func:`slot_offset`. Raises GiveUp ``lineage.full``."""
    text = json.dumps(encode(lineage), separators=(",", ":"))
    body = zlib.compress(text.encode(), 6)
    if _BODY_AT + len(body) > SLOT_BYTES:
        raise GiveUp("lineage.full", points=len(lineage.points), size=len(body),
                     limit=SLOT_BYTES - _BODY_AT)
    head = _HEAD.pack(_MAGIC, lineage.sequence, len(body))
    slot = head + blake3(head + body).digest() + blake3(head + body,
                                                       key=_mac_key(key)).digest() + body
    return slot + bytes(-len(slot) % ALIGN)


def decode_slot(read: Read, index: int, rule: str, key: bytes) -> Slot:
    """Slot ``index`` (0, 1). Raises ForeignChange ``lineage.forged``."""
    at = index * SLOT_BYTES
    start = read(at, FIRST_READ)
    if not any(start[:_BODY_AT]):
        return Slot("empty")
    magic, sequence, length = _HEAD.unpack_from(start)
    if magic != _MAGIC or not 0 < length <= SLOT_BYTES - _BODY_AT:
        return Slot("torn")
    rest = _BODY_AT + length - len(start)
    if rest > 0:
        start += read(at + len(start), rest)
    body = start[_BODY_AT:_BODY_AT + length]
    head = start[:_HEAD.size]
    checksum, mac = start[_HEAD.size:_HEAD.size + 32], start[_HEAD.size + 32:_BODY_AT]
    if blake3(head + body).digest() != checksum:
        return Slot("torn")
    if not hmac.compare_digest(blake3(head + body, key=_mac_key(key)).digest(), mac):
        raise ForeignChange("lineage.forged", rule=rule)
    try:
        lineage = _parsed(body)
    except zlib.error:
        raise ForeignChange("lineage.forged", rule=rule) from None
    except ValueError as error:
        # authentic but not understood: written by a newer version
        raise GiveUp("lineage.version", rule=rule, reason=str(error)) from error
    if (lineage.rule, lineage.sequence) != (rule, sequence) or sequence % 2 != index:
        # authentic bytes of another rule or another place: copied, not written by us
        raise ForeignChange("lineage.forged", rule=rule)
    return Slot("valid", lineage)


@lru_cache(maxsize=8)
def _parsed(body: bytes) -> Lineage:
    """The content of an authentic body. A task reads its lineage several times, and parsing 100
    points takes longer than reading them."""
    unpack = zlib.decompressobj()
    text = unpack.decompress(body, _JSON_MAX)
    if not unpack.eof:
        raise zlib.error
    return decode(Lineage, json.loads(text))


def load(read: Read, rule: str, key: bytes) -> Lineage:
    """The lineage of the disk; an empty one of epoch 0 when none was written.

    Raises ForeignChange ``lineage.forged``, and ``lineage.damaged`` when no slot is whole though
    a point may have been published: a first write (sequence 1, slot 1) never names a point, as
    the epoch is always written before the first point.
    """
    slots = [decode_slot(read, index, rule, key) for index in (0, 1)]
    found = [s.lineage for s in slots if s.lineage is not None]
    if found:
        return max(found, key=lambda lineage: lineage.sequence)
    if slots[0].state == "empty":
        return Lineage(rule=rule, epoch=0)
    raise ForeignChange("lineage.damaged", rule=rule)
