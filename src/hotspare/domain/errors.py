"""The error taxonomy: every error carries a stable code, its fields, and what the caller may do.

Three actions exist (after ovirt-imageio's taxonomy): retry the request, reconnect and go on,
or give up. The texts for people live in :mod:`hotspare.domain.messages`, keyed by the code, so
that they can be translated at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Action = Literal["retry", "reconnect", "give_up"]


class HotspareError(Exception):
    """An expected failure. ``code`` never changes its meaning between versions."""

    action: Action = "give_up"

    def __init__(self, code: str, /, **fields: Any) -> None:
        super().__init__(code)
        self.code = code
        self.fields: dict[str, Any] = fields

    def __str__(self) -> str:
        from .messages import text_of

        text = text_of(self.code, self.fields)
        return f"{text.message} {text.remedy}".strip()

    def as_dict(self) -> dict[str, Any]:
        """The one documented shape of an error: code, message, remedy, fields."""
        from .messages import text_of

        text = text_of(self.code, self.fields)
        fields = {k: v if isinstance(v, str | int | float | bool | None) else str(v)
                  for k, v in self.fields.items()}
        return {"code": self.code, "message": text.message, "remedy": text.remedy,
                "fields": fields}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> HotspareError:
        """The error again, as :class:`GiveUp`, after its journey through JSON."""
        return GiveUp(str(data["code"]), **dict(data.get("fields") or {}))


class Retry(HotspareError):
    """The same request may succeed later. ``after_s`` is a hint in seconds."""

    action: Action = "retry"

    def __init__(self, code: str, /, after_s: float = 1.0, **fields: Any) -> None:
        super().__init__(code, **fields)
        self.after_s = after_s


class Reconnect(HotspareError):
    """The connection is gone; a new one may find everything as it was."""

    action: Action = "reconnect"


class GiveUp(HotspareError):
    """Nothing changes by trying again; a person must act."""


class Refused(GiveUp):
    """Asked for something that is not supported or not allowed; nothing was changed."""


class OutOfSpace(GiveUp):
    """A disk is full, or would be. Nothing that was published is lost."""


class ForeignChange(GiveUp):
    """Something of ours was changed behind our back. It is never overwritten silently."""


class Fenced(GiveUp):
    """Another DR machine with a higher epoch has taken the rule over. Stop at once."""


class TrackingUnusable(GiveUp):
    """Changed-block tracking of a disk cannot be trusted: compare by digests instead."""


class SealMissing(GiveUp):
    """The head of a replica has no trustworthy seal: verify it by digests, then seal it anew."""


class Stopped(HotspareError):
    """An operator stopped the task. Its journal is kept."""


class InstantLost(GiveUp):
    """The instant of an intent is gone (QEMU died, snapshot removed).

    ``tracking`` is that instant's token when its changed-block tracking is still good, so that
    the next pass may read (not completed and flushed) ∪ (changed since that instant);
    ``None`` means that the unpublished state must be discarded.
    """

    def __init__(self, code: str, /, tracking: dict[str, Any] | None = None,
                 **fields: Any) -> None:
        super().__init__(code, **fields)
        self.tracking = tracking
