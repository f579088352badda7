"""Pictures of a screen: PPM and PNG of 8-bit RGB, as hypervisors make them.

Rows are made one by one: whether a picture is blank is mostly told by its first ones, and it is
asked each second beside transfers.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from .errors import GiveUp

_PNG = b"\x89PNG\r\n\x1a\n"
_PPM = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")
_MOST_PIXELS = 1 << 26


@dataclass(frozen=True, slots=True)
class Picture:
    """``rows`` are RGB, and may be passed once. They raise GiveUp ``screen.format``."""

    width: int
    height: int
    rows: Iterator[bytes]


def read(raw: bytes) -> Picture:
    """A PPM (P6) or a PNG. Raises GiveUp ``screen.format``."""
    try:
        width, height, rows = _png(raw) if raw.startswith(_PNG) else _ppm(raw)
        if not 0 < width * height <= _MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels")
    except (ValueError, struct.error) as error:
        raise GiveUp("screen.format", reason=str(error)) from error
    return Picture(width, height, _checked(rows, width, height))


def as_png(raw: bytes) -> bytes:
    """``raw`` itself when it is one."""
    return raw if raw.startswith(_PNG) else _write(read(raw))


def bounded(png: bytes, largest: int) -> bytes:
    """The picture with half of its width and height, until it has at most ``largest`` bytes."""
    while len(png) > largest:
        png = _write(_halved(read(png)))
    return png


def is_blank(picture: Picture) -> bool:
    """Whether it has one colour only."""
    first = next(picture.rows)
    plain = first[:3] * picture.width
    return first == plain and all(row == plain for row in picture.rows)


# --- inside ------------------------------------------------------------------------------------


def _checked(rows: Iterator[bytes], width: int, height: int) -> Iterator[bytes]:
    count = 0
    try:
        for row in islice(rows, height):
            if len(row) != 3 * width:
                break
            count += 1
            yield row
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        raise GiveUp("screen.format", reason=str(error)) from error
    if count < height:
        raise GiveUp("screen.format", reason=f"{count} of {height} rows")


def _halved(picture: Picture) -> Picture:
    """Every second pixel of every second row."""
    width = (picture.width + 1) // 2

    def rows() -> Iterator[bytes]:
        for row in islice(picture.rows, None, None, 2):
            half = bytearray(3 * width)
            for colour in range(3):
                half[colour::3] = row[colour::6]
            yield bytes(half)

    return Picture(width, (picture.height + 1) // 2, rows())


def _write(picture: Picture) -> bytes:
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(b"\0" + row) for row in picture.rows) + packer.flush()
    return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content)))


def _ppm(raw: bytes) -> tuple[int, int, Iterator[bytes]]:
    head = _PPM.match(raw)
    if head is None:
        raise ValueError("no picture that is known")
    width, height, begin = int(head[1]), int(head[2]), head.end()
    return width, height, (raw[at:at + 3 * width] for at in range(
        begin, begin + 3 * width * height, 3 * width or 1))


def _png(raw: bytes) -> tuple[int, int, Iterator[bytes]]:
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", raw[16:29])
    if (depth, colours, interlaced) != (8, 2, 0):
        raise ValueError("a PNG of another kind")
    return width, height, _png_rows(raw, width)


def _png_rows(raw: bytes, width: int) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    size = 3 * width + 1
    left = b"".join(content for kind, content in _chunks(raw) if kind == b"IDAT")
    above = bytes(3 * width)
    line = b""
    while True:
        line += unpacker.decompress(left, size - len(line))
        if len(line) < size:
            return
        left = unpacker.unconsumed_tail
        above = _unfiltered(line[0], line[1:], above)
        yield above
        line = b""


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
    if kind == 2 and not any(line):     # most of a screen that is nearly blank
        return above
    row = bytearray(line)
    for at in range(len(row)):
        left = row[at - 3] if at >= 3 else 0
        corner = above[at - 3] if at >= 3 else 0
        row[at] = (row[at] + _predicted(kind, left, above[at], corner)) & 0xFF
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
