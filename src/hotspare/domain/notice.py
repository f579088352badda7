"""What a notification says: one message for one event, or for many of the same kind."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .messages import Language, text_of
from .text import plain

_LINES = 200


@dataclass(frozen=True, slots=True)
class Notice:
    """An event that is told. ``at`` is in seconds since the epoch. Of ``fields``, ``rule`` and
    ``machine`` are names, ``code`` is that of the text when it is not the event's, ``cause`` is
    an error ({code, fields}), and ``more`` is how many later ones this one stands for, too."""

    event: str
    at: float
    fields: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """On one line: it is part of the title, which becomes a mail's header."""
        return plain(str(self.fields.get("rule") or self.fields.get("machine") or ""))

    @property
    def count(self) -> int:
        return 1 + int(self.fields.get("more", 0))


def compose(notices: Sequence[Notice], told_in: Language) -> tuple[str, str]:
    """Title and body for notices of one event, oldest first."""
    count = sum(n.count for n in notices)
    title = _say(told_in, f"notify.title-{notices[0].event.partition('.')[2]}")
    if count == 1:
        subject = notices[0].subject
        return (f"Hotspare: {title}: {subject}" if subject else f"Hotspare: {title}",
                "\n".join(_one(notices[0], told_in)))
    return f"Hotspare: {title} ({count})", "\n".join(_many(notices, count, told_in))


def _one(notice: Notice, told_in: Language) -> list[str]:
    message, cause, remedy = _explained(notice, told_in)
    fields = notice.fields
    return [line for line in (
        message,
        "rule" in fields and _say(told_in, "notify.rule", **fields),
        _say(told_in, "notify.time", time=_time(notice.at)),
        cause and _say(told_in, "notify.cause", cause=cause),
        remedy and _say(told_in, "notify.remedy", remedy=remedy),
        _more(notice, told_in)) if line]


def _many(notices: Sequence[Notice], count: int, told_in: Language) -> list[str]:
    """Each explanation once, with those that it holds for; at the end those that were too many
    to be explained, by name."""
    lines = [_say(told_in, "notify.many", count=count, first=_time(notices[0].at),
                  last=_time(notices[-1].at))]
    by_cause: dict[tuple[str, str], list[Notice]] = {}
    for notice in notices:
        _, cause, remedy = _explained(notice, told_in)
        by_cause.setdefault((cause, remedy), []).append(notice)
    rest: list[Notice] = []
    for (cause, remedy), those in by_cause.items():
        if len(lines) > _LINES:
            rest += those
            continue
        rest += [] if cause else those[_LINES:]
        told = [_names(those), cause] if cause else list(dict.fromkeys(
            _line(n, told_in) for n in those[:_LINES]))
        lines += ["", *told]
        if remedy:
            lines.append(_say(told_in, "notify.remedy", remedy=remedy))
    untold = count - len(notices) + len(rest)
    if untold:
        lines += ["", _say(told_in, "notify.others", count=untold), _names(rest)]
    return [*lines, "", _more(notices[-1], told_in)]


def _line(notice: Notice, told_in: Language) -> str:
    message = _explained(notice, told_in)[0]
    return f"{notice.subject}: {message}" if "rule" in notice.fields else message


def _names(notices: Sequence[Notice]) -> str:
    return ", ".join(f"{name} (×{n})" if n > 1 else name
                     for name, n in Counter(x.subject for x in notices).items())


def _explained(notice: Notice, told_in: Language) -> tuple[str, str, str]:
    """What happened, its cause or nothing, and the remedy."""
    text = text_of(str(notice.fields.get("code", notice.event)), notice.fields, told_in)
    cause = notice.fields.get("cause")
    if not cause:
        return text.message, "", text.remedy
    why = text_of(str(cause["code"]), cause.get("fields") or {}, told_in)
    return text.message, why.message, why.remedy or text.remedy


def _more(notice: Notice, told_in: Language) -> str:
    """Where to read on."""
    if "rule" in notice.fields:
        command = f"hotspare rule log {shlex.quote(str(notice.fields['rule']))}"
    else:
        command = "hotspare machine list" if "machine" in notice.fields else "hotspare notify list"
    return _say(told_in, "notify.more", command=command)


def _say(told_in: Language, code: str, /, **fields: Any) -> str:
    return text_of(code, fields, told_in).message


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
