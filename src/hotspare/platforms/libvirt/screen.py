"""What a machine shows on its console: as a PNG, and as text where its screen is in text mode.

QEMU 7.1 and later make PNGs, earlier ones PPMs. The text is read from where a VGA card keeps it, so
that nothing has to be recognised in the picture.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libvirt

from ...domain.errors import GiveUp
from ...domain.proof import LARGEST_SCREENSHOT
from ..port import Screen
from .connection import Connection, mapped

_LARGEST = 64 * 1024 * 1024         # bytes of a picture as it comes; 8K is 100 MB as a PPM
_TEXT_AT, _COLUMNS, _ROWS = 0xB8000, 80, 25
_TEXT_SIZES = {(720, 400), (640, 400)}
"""Pixels of 80 × 25 characters of 9 × 16 or 8 × 16. A graphical screen of that size is rare, and
what is read of it is not text."""
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Picture:
    """``rows`` are ``height`` rows of RGB, 8 bits each."""

    width: int
    height: int
    rows: list[bytes]


def read(connection: Connection, domain: Any) -> Screen | None:
    """See :meth:`Rehearsal.screen`."""
    try:
        raw = _download(connection, domain)
        picture = decode(raw)
        text = _text(domain) if (picture.width, picture.height) in _TEXT_SIZES else None
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN,
                                      libvirt.VIR_ERR_INVALID_ARG,
                                      libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                                      libvirt.VIR_ERR_OPERATION_UNSUPPORTED):
            return None     # off, or without a screen
        with mapped(vm=domain.name()):
            raise
    return Screen(_bounded(raw, picture), _one_colour(picture) if text is None else not text, text)


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


# --- pictures ----------------------------------------------------------------------------------


def decode(raw: bytes) -> Picture:
    """A PPM (P6) or a PNG of 8-bit RGB, as QEMU makes them. Raises GiveUp ``screen.format``."""
    try:
        return _from_png(raw) if raw.startswith(_PNG) else _from_ppm(raw)
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        raise GiveUp("screen.format", reason=str(error)) from error


def encode(picture: Picture) -> bytes:
    """A PNG."""
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in picture.rows), 9)
    return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def halved(picture: Picture) -> Picture:
    """Every second pixel of every second row."""
    rows = []
    for row in picture.rows[::2]:
        half = bytearray((picture.width + 1) // 2 * 3)
        for colour in range(3):
            half[colour::3] = row[colour::6]
        rows.append(bytes(half))
    return Picture((picture.width + 1) // 2, len(rows), rows)


def _bounded(raw: bytes, picture: Picture) -> bytes:
    """The picture as a PNG that is not too large to be kept."""
    png = raw if raw.startswith(_PNG) else encode(picture)
    while len(png) > LARGEST_SCREENSHOT:
        picture = halved(picture)
        png = encode(picture)
    return png


def _one_colour(picture: Picture) -> bool:
    first = picture.rows[0][:3]
    return all(row == first * picture.width for row in picture.rows)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content)))


def _from_ppm(raw: bytes) -> Picture:
    kind, width, height, deepest = raw.split(maxsplit=4)[:4]
    if kind != b"P6" or deepest != b"255":
        raise ValueError("no picture that is known")
    w, h = int(width), int(height)
    pixels = raw[len(raw) - 3 * w * h:]
    return Picture(w, h, [pixels[at:at + 3 * w] for at in range(0, len(pixels), 3 * w)])


def _from_png(raw: bytes) -> Picture:
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", raw[16:29])
    if (depth, colours, interlaced) != (8, 2, 0):
        raise ValueError("a PNG of another kind")
    packed = b"".join(content for kind, content in _chunks(raw) if kind == b"IDAT")
    lines = zlib.decompressobj().decompress(packed, (3 * width + 1) * height)
    rows: list[bytes] = []
    above = bytes(3 * width)
    for at in range(0, len(lines), 3 * width + 1):
        above = _unfiltered(lines[at], lines[at + 1:at + 1 + 3 * width], above)
        rows.append(above)
    return Picture(width, height, rows)


def _chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at:at + 4])
        yield raw[at + 4:at + 8], raw[at + 8:at + 8 + length]
        at += length + 12


def _unfiltered(kind: int, line: bytes, above: bytes) -> bytes:
    """A row of a PNG from what was stored of it (PNG specification, section 9)."""
    if kind == 0:
        return line
    if not any(line):       # most of a screen: nothing differs from what is predicted
        if kind == 2:
            return above
        if kind == 1:
            return line
    row = bytearray(line)
    for at in range(len(row)):
        left = row[at - 3] if at >= 3 else 0
        up = above[at]
        corner = above[at - 3] if at >= 3 else 0
        row[at] = (row[at] + _predicted(kind, left, up, corner)) & 0xFF
    return bytes(row)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 1:
        return left
    if kind == 2:
        return up
    if kind == 3:
        return (left + up) // 2
    if kind != 4:
        raise ValueError("an unknown filter")
    guess = left + up - corner
    distances = (abs(guess - left), abs(guess - up), abs(guess - corner))
    return (left, up, corner)[distances.index(min(distances))]
