"""The end of a disk that is longer than its other copy."""

from __future__ import annotations

from typing import Final

import nbd  # type: ignore[import-not-found,unused-ignore]

from ..domain.errors import Reconnect
from ..platforms.port import Export
from .control import Control

_PIECE: Final = 32 << 20        # bytes: the largest request that all servers take


def make_zero(export: Export, start: int, end: int, control: Control, disk: str = "") -> None:
    """Make the bytes from ``start`` to ``end`` of a disk zero, durably; ``disk`` is its name for
    errors. Raises Reconnect ``source.unreachable``, Stopped."""
    with export.open() as endpoint:
        handle = nbd.NBD()
        try:
            handle.set_uri_allow_local_file(True)
            handle.connect_uri(endpoint.uri)
            for at in range(start, end, _PIECE):
                control.tick()
                handle.zero(min(_PIECE, end - at), at)
            handle.flush()
            handle.shutdown()
        except nbd.Error as error:
            raise Reconnect("source.unreachable", disk=disk, reason=str(error)) from error
