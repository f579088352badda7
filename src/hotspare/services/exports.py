"""Tables as files: CSV that spreadsheets open as it is meant, in parts as it is read."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..domain.text import plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_file(columns: Sequence[str], parts: Iterable[Iterable[Sequence[Any]]]) -> Iterator[str]:
    """The header with a byte order mark, without which spreadsheets take Chinese for Latin-1,
    then the rows of each part."""
    yield "\ufeff" + _rows([columns])
    for part in parts:
        yield _rows(part)


def _rows(rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Texts may hold names that a stranger gave to a machine: none becomes a formula."""
    if isinstance(value, str):
        value = plain(value)
        return f"'{value}" if value.startswith(_FORMULA) else value
    return round(value, 3) if isinstance(value, float) else value


def instant(at: float | None) -> str:
    """``2026-11-24T00:46:29Z``."""
    return "" if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
