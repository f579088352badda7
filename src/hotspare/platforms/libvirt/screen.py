"""What a machine shows on its console: as a PNG, and as text where its screen is in text mode.

QEMU 7.1 and later make PNGs, earlier ones PPMs. The text is read from where a VGA card keeps it, so
that nothing has to be recognised in the picture.
"""

from __future__ import annotations

from typing import Any

import libvirt

from ...domain import picture
from ..port import Screen
from .connection import Connection, mapped

_LARGEST = 64 * 1024 * 1024         # bytes of a picture as it comes
_TEXT_AT, _COLUMNS, _ROWS = 0xB8000, 80, 25
_TEXT_SIZES = {(720, 400), (640, 400)}
"""Pixels of 80 × 25 characters of 9 × 16 or 8 × 16. A graphical screen of that size is rare, and
what is read of it is not text."""


def read(connection: Connection, domain: Any) -> Screen | None:
    """See :meth:`Rehearsal.screen`."""
    try:
        raw = _download(connection, domain)
        shown = picture.read(raw)
        text = _text(domain) if (shown.width, shown.height) in _TEXT_SIZES else None
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN,
                                      libvirt.VIR_ERR_INVALID_ARG,
                                      libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                                      libvirt.VIR_ERR_OPERATION_UNSUPPORTED):
            return None     # off, or without a screen
        with mapped(vm=domain.name()):
            raise
    return Screen(picture.as_png(raw), picture.is_blank(shown) if text is None else not text, text)


def _download(connection: Connection, domain: Any) -> bytes:
    stream = connection.conn.newStream(0)
    domain.screenshot(stream, 0, 0)
    data = bytearray()

    def take(_stream: Any, piece: bytes, _opaque: Any) -> int:
        data.extend(piece)
        return -1 if len(data) > _LARGEST else 0

    stream.recvAll(take, None)
    stream.finish()
    return bytes(data)


def _text(domain: Any) -> str:
    """The characters of the text screen; their attributes lie between them."""
    memory = bytes(domain.memoryPeek(_TEXT_AT, 2 * _COLUMNS * _ROWS, libvirt.VIR_MEMORY_PHYSICAL))
    characters = memory[::2].replace(b"\0", b" ").decode("cp437")
    return "\n".join(characters[at:at + _COLUMNS].rstrip()
                     for at in range(0, len(characters), _COLUMNS)).strip("\n")
