"""Small files of the data plane: written whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..domain.errors import OutOfSpace

FULL = {errno.ENOSPC, errno.EDQUOT}


def sync_directory(path: Path) -> None:
    """Make a rename or a new name in ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def space_errors(path: Path) -> Iterator[None]:
    """A full file system below ``path`` becomes OutOfSpace ``machine.no-space``."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise OutOfSpace("machine.no-space", path=str(path)) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when the block ends well: synced, then renamed,
    then the directory synced. Readable and seekable; nothing is left after an error."""
    temporary = path.with_name(f"{path.name}.new")
    with space_errors(path):
        try:
            with temporary.open("w+b") as file:
                temporary.chmod(0o600)
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
