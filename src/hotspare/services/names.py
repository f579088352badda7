"""Names that people give, and pages of lists."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, TypeVar

import sqlalchemy as sa

from ..domain.errors import Refused
from .views import Page

T = TypeVar("T")

NAME_MAX = 64
_IDENT = re.compile(r"[0-9a-f]{8}")


def check_name(name: str, field: str) -> str:
    """The name in its normal form. Letters and digits of any script, space and ``._-()`` are
    allowed: a name is used in addresses and on command lines. Never the form of an id."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= NAME_MAX:
        raise Refused("input.name-length", field=field, largest=NAME_MAX)
    bad = next((c for c in name if not _fits(c)), None)
    if bad is not None or name[0] in "-. ":
        raise Refused("input.name-characters", field=field,
                      found=f"U+{ord(bad or name[0]):04X}")
    if _IDENT.fullmatch(name):
        raise Refused("input.name-like-id", field=field)
    return name


def _fits(character: str) -> bool:
    return (character.isalnum() or character in " ._-()"
            or unicodedata.category(character) in {"Mn", "Mc"})


def allowed_in_name(text: str) -> str:
    """``text`` with each character that no name may have replaced by ``_``."""
    return "".join(c if _fits(c) else "_" for c in unicodedata.normalize("NFC", text))


def name_key(name: str) -> str:
    """What makes a name unique: case does not."""
    return unicodedata.normalize("NFC", name).strip().casefold()[:128]


def offset_of(cursor: str | None) -> int:
    return int(cursor) if cursor else 0


def slice_of(query: sa.Select[Any], limit: int, cursor: str | None) -> sa.Select[Any]:
    """One row more than the page has tells whether there is a next one."""
    return query.limit(limit + 1).offset(offset_of(cursor))


def page(items: list[T], limit: int, cursor: str | None) -> Page[T]:
    more = len(items) > limit
    return Page(items[:limit], str(offset_of(cursor) + limit) if more else None)
