"""Digests of blocks: keyed BLAKE3 of 128 bits for each 64 KiB, and sixteen zero bytes for zero.

Keyed, since a guest that could construct two blocks of one digest would make a compare skip its
changed data. A short last block is hashed as if zeroes followed, so that growing a disk does not
change the digest of what was there.
"""

from __future__ import annotations

import nbd  # type: ignore[import-not-found,unused-ignore]
from blake3 import blake3

from ..domain.extents import BLOCK

DIGEST = 16
ZERO_DIGEST = bytes(DIGEST)
UNKNOWN_DIGEST = b"\xff" * DIGEST
"""Stands for content that is not known: equal to no block's digest."""

_CONTEXT = "hotspare 2026-01 block digests of restore points"


def digest_key(rule_key: bytes) -> bytes:
    """The 32-byte key of a rule's digests, from the rule's own key (32 bytes)."""
    if len(rule_key) != 32:
        raise ValueError("a rule's key has 32 bytes")
    return bytes(blake3(rule_key, derive_key_context=_CONTEXT).digest())


class BlockHasher:
    """Hashes whole blocks with one key. Use by one thread at a time or several: it is stateless."""

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes, of :func:`digest_key`."""
        if len(key) != 32:
            raise ValueError("a digest key has 32 bytes")
        self._key = key

    def block(self, view: memoryview) -> bytes:
        """The digest of one block that is not all zero. A short one is the disk's last."""
        if len(view) == BLOCK:
            return blake3(view, key=self._key).digest(length=DIGEST)
        return blake3(bytes(view).ljust(BLOCK, b"\0"), key=self._key).digest(length=DIGEST)

    def digests(self, data: memoryview | bytes | bytearray) -> bytes:
        """The digests of the blocks in ``data``, which begins at a block: 16 bytes each."""
        view = memoryview(data)
        buffer = nbd.Buffer.from_buffer(view)
        parts = []
        for at in range(0, len(view), BLOCK):
            part = view[at:at + BLOCK]
            parts.append(ZERO_DIGEST if buffer.is_zero(at, len(part)) else self.block(part))
        return b"".join(parts)
