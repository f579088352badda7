"""What an ended task adds to the statistics. Part of a change."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..store import Record, schema
from . import rpo
from .context import Change
from .day_sums import add, add_to_day
from .notifications import announce

BYTES: Final = ("bytes_queried", "bytes_read", "bytes_moved", "bytes_zero")
BOUNDS_S: Final = (1, 5, 15, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
"""Bounds of the histogram of durations; what takes longer than the last is beyond all."""
_LARGEST: Final = 2**53


def columns(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The task's columns from what its DR machine reported; what is no number counts 0."""
    stall = figures.get("stall_s")
    return {
        "full": figures.get("full") is True, "retries": _count(figures.get("retries"), 2**31 - 1),
        "stall_s": float(stall) if isinstance(stall, int | float) and 0 <= stall < 1e9 else None,
        **{name: _count(figures.get(name)) for name in BYTES}}


def _count(value: Any, largest: int = _LARGEST) -> int:
    return min(max(int(value), 0), largest) if isinstance(value, int) else 0


def settle(change: Change, task: Record, rule: Record | None, outcome: str,
           figures: Mapping[str, Any], ended: float) -> dict[str, Any]:
    """Count the task that ended, at ``ended``: the end of its last step, so that a report which
    was late does not count. Returns what is to be set at its rule, which is as it was."""
    values = columns(figures)
    seconds = 0.0 if task.started_at is None else max(0.0, ended - float(task.started_at))
    add(change, schema.tally,
        {"kind": task.kind, "outcome": outcome, "bucket": bisect_left(BOUNDS_S, seconds)},
        {"tasks": 1, "seconds": seconds, "bytes_moved": values["bytes_moved"],
         "retries": values["retries"]})
    if task.kind != "replicate" or rule is None:
        return {}
    add_to_day(replace(change, now=ended), rule.id, rule.group, seconds=seconds,
               retries=values["retries"], full=int(values["full"]), **{outcome: 1},
               **{name: values[name] for name in BYTES})
    if outcome not in {"ok", "warning"}:
        return {}
    if missed := _count(figures.get("missed")):
        announce(change, "rule.tracking-lied", rule=rule.id,
                 fields={"task": task.id, "size": missed})
    return {"full_runs": _watch_full(change, task, rule, figures),
            "rpo_target_s": rpo.target_s(change.conn, rule)}


def _watch_full(change: Change, task: Record, rule: Record, figures: Mapping[str, Any]) -> int:
    """Every run silently becoming a full copy is loud here, from the second on as an error.
    Returns how many runs of the rule were such, one after the other."""
    unexpected = figures.get("full") is True and "full_reason" in figures
    runs: int = rule.full_runs + 1 if unexpected else 0
    if unexpected:
        level, code = (("warning", "rule.unexpected-full") if runs == 1 else
                       ("error", "rule.unexpected-full-again"))
        fields = {"runs": runs, "reason": str(figures["full_reason"])[:64]}
        change.log(level, code, fields, rule=rule.id, task=task.id)
        announce(change, "rule.unexpected-full", rule=rule.id,
                 fields=fields | {"code": code})
    return runs
