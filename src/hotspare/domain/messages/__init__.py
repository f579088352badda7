"""Texts of every code: what happened, with its cause, and the remedy; in English and Chinese.

One module an area, and its translation under the same name in ``zh``. Tests check that every code
raised in the source has a text here, that no text is unused, and that none is untranslated.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from string import Formatter
from typing import Any, Final, Literal

Language = Literal["en", "zh-CN"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh-CN")

language: ContextVar[Language] = ContextVar("language", default="en")
"""What texts are told in where nobody names a language: set for a request, or for a command."""


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
    """A field that is missing shows as its name: a message must never fail to be shown.
    ``{until:time}`` shows seconds since the epoch as a time of UTC."""

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key), f"<{key}>")

    def format_field(self, value: Any, format_spec: str) -> Any:
        if format_spec == "time" and isinstance(value, int | float) and abs(value) < 2**37:
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M} UTC"
        return super().format_field(value, "" if format_spec == "time" else format_spec)


def areas(package: str = __name__) -> dict[str, dict[str, Text]]:
    """The texts by area, each module's own."""
    root = import_module(package)
    return {m.name: import_module(f"{package}.{m.name}").TEXTS
            for m in iter_modules(root.__path__) if not m.ispkg}


@cache
def catalogue() -> dict[str, Text]:
    """All English texts by code."""
    return {code: text for texts in areas().values() for code, text in texts.items()}


@cache
def _chinese() -> dict[str, Text]:
    return {code: text for texts in areas(f"{__name__}.zh").values()
            for code, text in texts.items()}


def text_of(code: str, fields: Mapping[str, Any], told_in: Language | None = None) -> Text:
    """The text of ``code`` with ``fields`` filled in, in the given language, else in that of the
    context. An unknown code is its own text, one that is not translated is told in English."""
    text = catalogue().get(code)
    if text is None:
        return Text(f"{code} {dict(fields)}" if fields else code)
    wanted = told_in or language.get()
    known = text if wanted == "en" else _chinese().get(code, text)
    fields = _told(fields, wanted)
    fmt = _Lenient()
    return Text(fmt.vformat(known.message, (), fields), fmt.vformat(known.remedy, (), fields),
                text.exit)


def _told(fields: Mapping[str, Any], wanted: Language) -> dict[str, Any]:
    """The fields with our own words in the language, and a reason that is a code as its text. A
    refusal whose ``cause`` is a code has that one's texts as its reason and help."""
    told = dict(fields)
    if wanted == "zh-CN":
        from .zh import WORDS

        for name, words in WORDS.items():
            if isinstance(told.get(name), str):
                told[name] = words.get(told[name], told[name])
    for name in ("reason", "cause"):
        inner = catalogue().get(str(fields.get(name)))
        if inner is not None and _names(inner) <= fields.keys() - {"cause", "reason"}:
            text = text_of(str(fields[name]), {k: fields[k] for k in _names(inner)}, wanted)
            told |= ({"reason": text.message.rstrip(".。")} if name == "reason" else
                     {"reason": text.message, "help": text.remedy})
    return told


def _names(text: Text) -> set[str]:
    return {name for part in (text.message, text.remedy)
            for _, name, _, _ in Formatter().parse(part) if name}


def language_of(tag: str | None) -> Language:
    """What suits an ``Accept-Language`` header, a language tag or a locale (``zh_CN.UTF-8``)
    best; English when neither language is in it."""
    best: tuple[float, Language] = (0.0, "en")
    for part in (tag or "")[:1000].split(","):
        name, _, weight = part.strip().lower().partition(";q=")
        found: Language = "zh-CN" if name[:2] == "zh" else "en"
        if name[:2] in {"zh", "en"} and not name[2:3].isalpha():
            try:
                best = max(best, (float(weight or 1), found), key=lambda x: x[0])
            except ValueError:
                continue
    return best[1]
