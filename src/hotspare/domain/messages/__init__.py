"""English texts of every code: what happened, with its cause, and the remedy.

One module an area; a test checks that every code raised in the source has a text here and that
no text is unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """``message`` and ``remedy`` are ``str.format`` templates over the error's fields.

    ``exit`` is the exit code of the command line: 1 failure, 2 bad input, 3 not found,
    4 not allowed in this state, 5 not authorised, 6 unreachable, 7 no space, 8 not supported.
    """

    message: str
    remedy: str = ""
    exit: int = 1


class _Lenient(Formatter):
    """A field that is missing shows as its name: a message must never fail to be shown."""

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key), f"<{key}>")


def catalogue() -> dict[str, Text]:
    """All texts by code."""
    from . import dataplane, platform, service, workflow

    return {**platform.TEXTS, **dataplane.TEXTS, **service.TEXTS, **workflow.TEXTS}


def text_of(code: str, fields: Mapping[str, Any]) -> Text:
    """The text of ``code`` with ``fields`` filled in; an unknown code is its own text."""
    text = catalogue().get(code)
    if text is None:
        return Text(f"{code} {dict(fields)}" if fields else code)
    fmt = _Lenient()
    return Text(fmt.vformat(text.message, (), fields), fmt.vformat(text.remedy, (), fields),
                text.exit)
