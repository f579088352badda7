"""What a failback may have overwritten of a source machine's disks, noted before it is: files of
extents in a directory of the failback's own.

The platform's tracking tells it, too, but promises nothing of what is written while a disk is put
back (Virtual Disk Development Kit Programming Guide, "Restoring an existing virtual machine").
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from pyVmomi import vim

from ...domain.extents import Extent, round_out, union
from ..port import Intent, Leftover
from .connection import Connection
from .files import CHUNK, Files

_SUFFIX = ".extents"


class Areas:
    """Extents, sorted and merged, 16 bytes each."""

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        self._numbers = array("Q")
        for extent in extents:
            self._numbers.extend(extent)

    @staticmethod
    def of_file(content: bytes) -> Areas:
        found = Areas()
        found._numbers.frombytes(content)
        return found

    def __iter__(self) -> Iterator[Extent]:
        numbers = iter(self._numbers)
        return (Extent(offset, length) for offset, length in zip(numbers, numbers, strict=True))

    def __bool__(self) -> bool:
        return bool(self._numbers)


class Overwritten:
    """Those of all disks of one failback."""

    def __init__(self, connection: Connection, storage: str, origin: Intent) -> None:
        self._files = Files(connection, storage, directory_of(origin))

    def begin(self) -> None:
        """Nothing is noted. Idempotent."""
        self._files.delete()
        self._files.make_directory()

    def forget(self) -> None:
        self._files.delete()

    def note(self, disk: str, extents: Iterable[Extent], size: int) -> None:
        """Durable on return. Blocks as a whole, and nothing beyond ``size``."""
        with tempfile.TemporaryFile() as spool:
            for extent in round_out(extents, size):
                spool.write(array("Q", extent).tobytes())
            length = spool.tell()
            if not length:
                return
            number = len(self._of(disk))
            while True:
                spool.seek(0)
                number += 1
                if self._files.write(f"{disk}.{number}{_SUFFIX}",
                                     iter(lambda: spool.read(CHUNK), b""), length):
                    return

    def areas(self, disk: str) -> Areas:
        """All that was noted of it."""
        return Areas(union(*(Areas.of_file(b"".join(self._files.read(name)))
                             for name in self._of(disk))))

    def _of(self, disk: str) -> list[str]:
        return [name for name in self._files.names(f"{disk}.*{_SUFFIX}")
                if PurePosixPath(name).stem.rpartition(".")[0] == disk]


def directory_of(origin: Intent) -> str:
    return f"{origin}.undo"


def forget_everywhere(connection: Connection, origin: Intent) -> list[Leftover]:
    """For a machine that is gone, with the mark that said where."""
    found = []
    for _, values in connection.collect(vim.Datastore, ["name", "summary.accessible"]):
        files = Files(connection, str(values["name"]), directory_of(origin))
        if values["summary.accessible"] and files.delete():
            found.append(Leftover("undo", directory_of(origin)))
    return found
