"""Pictures of a screen: those that QEMU makes are read, and what is kept is a PNG."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from hotspare.domain import picture
from hotspare.domain.errors import GiveUp
from hotspare.domain.proof import LARGEST_SCREENSHOT


def noise(width: int, height: int) -> list[bytes]:
    chance = random.Random(1)
    return [chance.randbytes(3 * width) for _ in range(height)]


def plain(width: int, height: int) -> list[bytes]:
    return [b"\1\2\3" * width] * height


def ppm(rows: list[bytes]) -> bytes:
    return b"P6\n%d %d\n255\n" % (len(rows[0]) // 3, len(rows)) + b"".join(rows)


def rows_of(raw: bytes) -> list[bytes]:
    return list(picture.read(raw).rows)


def filtered(rows: list[bytes], kind: int) -> bytes:
    """A PNG whose rows are all stored by one filter, written as the specification has it."""
    def left(row: bytes, at: int) -> int:
        return row[at - 3] if at >= 3 else 0

    lines = b""
    above = bytes(len(rows[0]))
    for row in rows:
        line = bytearray([kind])
        for at, value in enumerate(row):
            a, b, c = left(row, at), above[at], left(above, at)
            p = a + b - c
            paeth = (a if abs(p - a) <= abs(p - b) and abs(p - a) <= abs(p - c) else
                     b if abs(p - b) <= abs(p - c) else c)
            line.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) & 0xFF)
        lines += line
        above = row
    png = picture.as_png(ppm(rows))
    header = png[:33]
    packed = zlib.compress(lines)
    chunk = b"IDAT" + packed
    return (header + struct.pack(">I", len(packed)) + chunk
            + struct.pack(">I", zlib.crc32(chunk)) + png[-12:])


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("rows", [noise(17, 9), plain(16, 8)], ids=["noise", "plain"])
def test_every_filter_of_a_png_is_read(rows: list[bytes], kind: int) -> None:
    png = filtered(rows, kind)
    assert rows_of(png) == rows
    assert picture.is_blank(picture.read(png)) == (rows == plain(16, 8))
    assert picture.as_png(png) is png


def test_a_ppm_becomes_a_png() -> None:
    rows = noise(5, 3)
    assert rows_of(ppm(rows)) == rows_of(picture.as_png(ppm(rows))) == rows


def test_a_large_one_is_made_smaller() -> None:
    rows = noise(1600, 1200)
    png = picture.bounded(picture.as_png(ppm(rows)), LARGEST_SCREENSHOT)
    assert len(png) <= LARGEST_SCREENSHOT
    small = picture.read(png)
    assert (small.width, small.height) == (400, 300)
    assert list(small.rows)[1][3:6] == rows[4][12:15], "pixels of the original"


def test_blank() -> None:
    almost = plain(16, 8)
    almost[7] = almost[7][:-1] + b"\4"
    assert picture.is_blank(picture.read(ppm(plain(16, 8))))
    assert not picture.is_blank(picture.read(ppm(almost)))


@pytest.mark.parametrize("raw", [
    b"", b"GIF89a", b"P6\n5 3\n255\n", b"P6\n5 3\n65535\nxx", b"P6\n0 0\n255\n",
    b"\x89PNG\r\n\x1a\n", picture.as_png(ppm(plain(4, 4)))[:40], filtered(noise(4, 4), 0)[:-40],
    ppm(noise(4, 4))[:-1]])
def test_what_is_no_picture(raw: bytes) -> None:
    with pytest.raises(GiveUp) as caught:
        list(picture.read(raw).rows)
    assert caught.value.code == "screen.format"
