"""Bandwidth ranges as people write them: ``mon-fri 09:00-18:00 10MiB``, ``sat,sun 0``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .bandwidth import DAY_MINUTES, Range
from .errors import Refused
from .limits import bytes_of

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIMES = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)")


def parse(text: str) -> tuple[Range, ...]:
    """The ranges of ``DAYS [FROM-TO] LIMIT``; one over midnight is two. DAYS are ``daily`` or
    names and spans (``mon-thu,sun``), the limit is in bytes a second, 0 stops the transfer.
    Raises Refused ``bandwidth.text``."""
    match text.lower().split():
        case [days, limit]:
            start, end = 0, DAY_MINUTES
        case [days, times, limit]:
            start, end = _times(times, text)
        case _:
            raise Refused("bandwidth.text", value=text)
    rate = bytes_of(limit.removesuffix("/s"))
    chosen = _days(days, text)
    if start < end:
        return (Range(chosen, start, end, rate),)
    after = tuple(sorted(day % 7 + 1 for day in chosen))
    pieces = (Range(chosen, start, DAY_MINUTES, rate), Range(after, 0, end, rate))
    return tuple(piece for piece in pieces if piece.start < piece.end)


def parse_all(texts: Iterable[str]) -> tuple[Range, ...]:
    return tuple(span for text in texts for span in parse(text))


def describe(span: Range) -> str:
    """The range as :func:`parse` reads it."""
    def clock(minutes: int) -> str:
        return f"{minutes // 60:02}:{minutes % 60:02}"

    days = "daily" if len(span.days) == 7 else ",".join(DAYS[day - 1] for day in span.days)
    limit, unit = span.limit, ""
    for letter in "KMG":
        if limit and limit % 1024 == 0:
            limit, unit = limit // 1024, f"{letter}iB"
    return f"{days} {clock(span.start)}-{clock(span.end)} {limit}{unit}"


def _days(text: str, whole: str) -> tuple[int, ...]:
    if text == "daily":
        return tuple(range(1, 8))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not {first, last if dash else first} <= set(DAYS):
            raise Refused("bandwidth.text", value=whole)
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {(begin + n) % 7 + 1 for n in range((end - begin) % 7 + 1)}
    return tuple(sorted(found))


def _times(text: str, whole: str) -> tuple[int, int]:
    match = _TIMES.fullmatch(text)
    if match is None:
        raise Refused("bandwidth.text", value=whole)
    a, b, c, d = map(int, match.groups())
    start, end = a * 60 + b, c * 60 + d
    if max(b, d) > 59 or start >= DAY_MINUTES or end > DAY_MINUTES or start == end:
        raise Refused("bandwidth.text", value=whole)
    return start, end
