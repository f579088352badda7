"""The temporary directory of a rule on its DR machine: looked at before a run needs it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..domain.errors import GiveUp, OutOfSpace

FLOOR_BYTES: Final = 16 * 1024 * 1024
"""For change lists and journals, whatever the disks."""

_DIGESTS_SHARE: Final = 2 * 16 / 65536
"""16 bytes for each 64 KiB of disk, for the new point's digests and its base's."""


def check(path: Path, folder: str, disk_sizes: Iterable[int]) -> None:
    """Raises GiveUp ``temp-dir.missing`` or ``temp-dir.rights``, OutOfSpace ``temp-dir.full`` when
    a run of a machine with these disks (bytes) may need more than is free, what it left in
    ``folder`` counted as free. The directory is never made here: a file system that is not
    mounted must not be taken for an empty one."""
    if not path.is_dir():
        raise GiveUp("temp-dir.missing", path=str(path))
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
            probe.flush()
        free = shutil.disk_usage(path).free
        free += sum(f.stat().st_blocks * 512 for f in (path / folder).glob("*"))
    except OSError as error:
        raise GiveUp("temp-dir.rights", path=str(path),
                     why=error.strerror or str(error)) from None
    needed = FLOOR_BYTES + int(sum(disk_sizes) * _DIGESTS_SHARE)
    if free < needed:
        raise OutOfSpace("temp-dir.full", path=str(path), free=free, needed=needed)
