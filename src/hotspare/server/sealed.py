"""A file that only a passphrase opens, written and read as a stream.

One line of JSON (magic, scrypt's salt and costs), then pieces: four bytes of length, big-endian,
and the AES-256-GCM of up to 64 KiB. A piece's nonce is its number and whether it is the last, and
the head is authenticated with each: a piece that is changed, moved or missing is noticed.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
from typing import IO, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ..domain.errors import Refused

_MAGIC: Final = "hotspare-backup-1"
_PIECE: Final = 64 * 1024
_TAG: Final = 16
_COSTS: Final = {"n": 1 << 17, "r": 8, "p": 1}  # 128 MiB and some 0.4 s for each guess


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, **_COSTS).derive(passphrase.encode()))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class SealedWriter(io.RawIOBase):
    """Closing it writes the last piece; ``file`` stays open."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        salt = secrets.token_bytes(16)
        self._head = json.dumps({"magic": _MAGIC, "scrypt": _COSTS | {
            "salt": base64.b64encode(salt).decode()}}).encode() + b"\n"
        self._file = file
        self._cipher = _cipher(passphrase, salt)
        self._number = 0
        self._buffer = bytearray()
        file.write(self._head)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._buffer += data
        while len(self._buffer) > _PIECE:
            self._put(last=False)
        return len(data)

    def _put(self, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, last), bytes(self._buffer[:_PIECE]),
                                      self._head)
        del self._buffer[:_PIECE]
        self._number += 1
        self._file.write(len(sealed).to_bytes(4, "big") + sealed)

    def close(self) -> None:
        if not self.closed:
            self._put(last=True)
        super().close()


class SealedReader(io.RawIOBase):
    """Raises Refused ``backup.format``, ``backup.passphrase``, ``backup.damaged``."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        self._head = file.readline(4096)
        try:
            head = json.loads(self._head)
            costs = dict(head["scrypt"])
            salt = base64.b64decode(costs.pop("salt"))
            # The costs are this version's: a file must not be able to ask for all memory.
            known = head["magic"] == _MAGIC and costs == _COSTS
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise Refused("backup.format")
        self._file = file
        self._cipher = _cipher(passphrase, salt)
        self._number = 0
        self._next: bytes | None = self._sealed()
        self._open = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._open and self._next is not None:
            self._open = self._piece()
        taken = self._open[:len(buffer)]
        self._open = self._open[len(taken):]
        buffer[:len(taken)] = taken
        return len(taken)

    def _sealed(self) -> bytes | None:
        """The next piece as it is in the file; None at the end."""
        length = self._file.read(4)
        if not length:
            return None
        size = int.from_bytes(length, "big")
        sealed = self._file.read(size) if _TAG <= size <= _PIECE + _TAG else b""
        if len(length) != 4 or len(sealed) != size:
            raise Refused("backup.damaged")
        return sealed

    def _piece(self) -> bytes:
        sealed, self._next = self._next, self._sealed()
        assert sealed is not None
        try:
            opened = self._cipher.decrypt(_nonce(self._number, self._next is None), sealed,
                                          self._head)
        except InvalidTag:
            raise Refused("backup.damaged" if self._number else "backup.passphrase") from None
        self._number += 1
        return opened
