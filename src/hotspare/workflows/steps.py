"""A workflow is a declarative list of steps; the same list draws the progress an operator sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import Bench

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """``run`` gets the bench and the context, which it changes in place.

    Each step is idempotent for the task's intent: it may run again after a crash in its middle or
    just after its end. The manual's state that the rule shows meanwhile follows from the name
    (``domain.rule_states.STEP_EVENTS``).
    """

    name: str
    run: Callable[[Bench, Json], None]


@dataclass(frozen=True, slots=True)
class Workflow:
    """``clean_up`` runs, once, after the steps have failed or were stopped. ``figures``: what a
    task reports at its end, however it ends, with its values at the beginning."""

    steps: tuple[Step, ...]
    clean_up: Callable[[Bench, Json], None] | None = None
    figures: Json = field(default_factory=dict)
