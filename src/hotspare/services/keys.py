"""The master secret, outside the database: encrypts platforms' secrets, gives rules their keys."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..domain.errors import GiveUp, Refused

LENGTH = 32
_NONCE = 12


class KeyRing:
    """All keys are derived from one file, ``secret.key`` in the state directory."""

    def __init__(self, master: bytes) -> None:
        if len(master) != LENGTH:
            raise GiveUp("server.key-damaged")
        self._rule_context = "hotspare 2025 rule key"
        self._master = master
        self._aes = AESGCM(blake3(master, derive_key_context="hotspare 2025 secrets").digest())

    @staticmethod
    def load_or_make(path: Path, may_make: bool) -> KeyRing:
        """The ring of the key file. A lost key file is never replaced silently: ``may_make`` is
        true only while there is no database yet."""
        try:
            if path.stat().st_mode & 0o077:
                raise Refused("server.key-readable", path=str(path))
            return KeyRing(path.read_bytes())
        except FileNotFoundError:
            if not may_make:
                raise GiveUp("server.key-missing", path=str(path)) from None
        master = secrets.token_bytes(LENGTH)
        write_private(path, master)
        return KeyRing(master)

    def encrypt(self, secret: str, owner: str) -> bytes:
        """``owner`` is bound to the result: a secret cannot be moved to another row."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._aes.encrypt(nonce, secret.encode(), owner.encode())

    def decrypt(self, data: bytes, owner: str) -> str:
        try:
            return self._aes.decrypt(data[:_NONCE], data[_NONCE:], owner.encode()).decode()
        except InvalidTag:
            raise GiveUp("server.key-wrong", owner=owner) from None

    def rule_key(self, rule: str) -> bytes:
        """32 bytes, the rule's own."""
        return blake3(self._master + rule.encode(),
                      derive_key_context=self._rule_context).digest()


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all, durably."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """What was renamed in it stays renamed."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
