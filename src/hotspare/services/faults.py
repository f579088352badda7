"""Faults of many fields, found in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..domain.errors import HotspareError, Refused

_MOST_TOLD: Final = 10


class Faults:
    """The first fault of each field."""

    def __init__(self) -> None:
        self.by_field: dict[str, HotspareError] = {}

    @contextmanager
    def at(self, field: str) -> Iterator[None]:
        """An error that is raised inside is the field's."""
        try:
            yield
        except HotspareError as error:
            self.by_field.setdefault(field, error)

    def __contains__(self, field: str) -> bool:
        return field in self.by_field

    def throw(self) -> None:
        """Raise what there is: one fault as it is, with its ``field``; several by field."""
        if not self.by_field:
            return
        if len(self.by_field) == 1:
            [(field, error)] = self.by_field.items()
            error.fields.setdefault("field", field)
            raise error
        told = [f"{at}: {str(e.as_dict()['message']).rstrip('.')}"
                for at, e in self.by_field.items()]
        more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
        remedies = dict.fromkeys(str(e.as_dict()["remedy"]) for e in self.by_field.values())
        raise Refused("rule.fields", **{at: str(error) for at, error in self.by_field.items()},
                      summary="; ".join(told[:_MOST_TOLD] + more),
                      help=" ".join([r for r in remedies if r][:_MOST_TOLD]))
