"""The temporary directory of a rule on its DR machine: looked at before a run needs it, and given
the rule's folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..dataplane.files import FULL
from ..domain.errors import GiveUp, OutOfSpace

FLOOR_BYTES: Final = 16 * 1024 * 1024
"""For change lists and journals, whatever the disks."""

_DIGESTS_SHARE: Final = 2 * 16 / 65536
"""16 bytes for each 64 KiB of disk, for the new point's digests and its base's."""


def prepare(path: Path, folder: str, disk_sizes: Iterable[int]) -> None:
    """Look at the directory ``path`` and make ``folder`` in it, for a run of a machine with disks
    of these sizes (bytes). What an earlier run left in ``folder`` counts as free. The directory
    itself is never made: a file system that is not mounted must not be taken for an empty one.

    Raises GiveUp ``temp-dir.missing`` or ``temp-dir.rights``, OutOfSpace ``temp-dir.full``."""
    if not path.is_dir():
        raise GiveUp("temp-dir.missing", path=str(path))
    needed = FLOOR_BYTES + int(sum(disk_sizes) * _DIGESTS_SHARE)
    free = 0
    try:
        free = shutil.disk_usage(path).free
        free += sum(f.stat().st_blocks * 512 for f in (path / folder).glob("*"))
        (path / folder).mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=path / folder) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise GiveUp("temp-dir.rights", path=str(path),
                         why=error.strerror or str(error)) from None
        free = 0                # also of inodes, or of a quota
    if free < needed:
        raise OutOfSpace("temp-dir.full", path=str(path), free=free, needed=needed)
