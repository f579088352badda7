"""What Prometheus scrapes: text format 0.0.4, read from the database at each scrape.

Counters come from the tally, which is never pruned and only grows, so they survive restarts. How
many series there are is bounded: by the states, the kinds of tasks, the DR machines, and two for
each rule, of which :data:`MOST_RULES` are told at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .. import __version__
from ..domain.rule_states import RuleState
from ..store import Record, schema
from . import rpo
from .context import Actor, Context
from .task_figures import BOUNDS_S

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST_RULES: Final = 10_000

Sample = tuple[Mapping[str, Any], float]


class Metrics:
    def __init__(self, context: Context) -> None:
        self._context = context

    def text(self, actor: Actor, rules: bool = True) -> str:
        """All metrics; without ``rules`` none that has a series for each rule."""
        actor.need("viewer")
        now = self._context.clock()
        with self._context.read() as conn:
            return "".join(_all(conn, now, rules))


def _all(conn: Connection, now: float, rules: bool) -> Iterator[str]:
    yield _family("info", "gauge", "The version that runs.", [({"version": __version__}, 1)])
    yield from _rules(conn)
    yield from _tasks(conn)
    yield from _queue(conn)
    if rules:
        yield from _each_rule(conn, now)


def _rules(conn: Connection) -> Iterator[str]:
    r = schema.rule
    rows = conn.execute(sa.select(
        r.c.state, sa.func.count().label("rules"),
        sa.func.count(r.c.rpo_violated_at).label("violated"),
        sa.func.count(r.c.both_run_since).label("both"),
        sa.func.count().filter(r.c.points == 0).label("unprotected"),
        sa.func.sum(r.c.points).label("points"), sa.func.sum(r.c.stored).label("stored"))
        .where(r.c.deleted_at.is_(None)).group_by(r.c.state)).all()
    counted = {row.state: row.rules for row in rows}
    yield _family("rules", "gauge", "Rules by the state that is shown.", [
        ({"state": state.value}, counted.get(state.value, 0)) for state in RuleState])
    for name, column, about in (
            ("rules_rpo_violated", "violated", "Rules whose newest point is older than allowed."),
            ("rules_both_run", "both", "Rules whose source runs beside their replica."),
            ("rules_unprotected", "unprotected", "Rules without any restore point."),
            ("restore_points", "points", "Restore points of all rules."),
            ("stored_bytes", "stored", "Bytes that the restore points hold.")):
        yield _family(name, "gauge", about,
                      [({}, float(sum(getattr(row, column) for row in rows)))])
    p = schema.restore_point
    damaged = conn.execute(sa.select(sa.func.count()).where(p.c.damaged_at.is_not(None))).scalar()
    yield _family("restore_points_damaged", "gauge", "Restore points that a scrub found wrong.",
                  [({}, float(damaged or 0))])


def _tasks(conn: Connection) -> Iterator[str]:
    rows = conn.execute(sa.select(schema.tally)).all()
    kinds = sorted({row.kind for row in rows})
    ended: dict[tuple[str, str], int] = {}
    for row in rows:
        ended[row.kind, row.outcome] = ended.get((row.kind, row.outcome), 0) + row.tasks
    yield _family("tasks_total", "counter", "Tasks that ended, by kind and outcome.", [
        ({"kind": kind, "outcome": outcome}, count)
        for (kind, outcome), count in sorted(ended.items())])
    yield _family("moved_bytes_total", "counter", "Bytes written to targets.", [
        ({"kind": kind}, sum(row.bytes_moved for row in rows if row.kind == kind))
        for kind in kinds])
    yield _family("retries_total", "counter", "Steps and connections that were tried again.", [
        ({"kind": kind}, sum(row.retries for row in rows if row.kind == kind)) for kind in kinds])
    yield _head("task_duration_seconds", "histogram", "How long tasks took.")
    for kind in kinds:
        yield from _histogram(kind, [row for row in rows if row.kind == kind])


def _histogram(kind: str, rows: list[Record]) -> Iterator[str]:
    name = "task_duration_seconds"
    buckets = list(accumulate(sum(row.tasks for row in rows if row.bucket == index)
                              for index in range(len(BOUNDS_S) + 1)))
    for bound, count in zip((*BOUNDS_S, "+Inf"), buckets, strict=True):
        yield _sample(f"{name}_bucket", {"kind": kind, "le": bound}, count)
    yield _sample(f"{name}_sum", {"kind": kind}, sum(row.seconds for row in rows))
    yield _sample(f"{name}_count", {"kind": kind}, buckets[-1])


def _queue(conn: Connection) -> Iterator[str]:
    m, t = schema.machine, schema.task
    queued = sa.func.count().filter(t.c.state == "queued").label("queued")
    running = sa.func.count().filter(t.c.state.in_(("dispatched", "running"))).label("running")
    machines = conn.execute(
        sa.select(m.c.name, m.c.live, queued, running)
        .outerjoin(t, sa.and_(t.c.machine == m.c.name, t.c.state != "ended"))
        .where(m.c.deleted_at.is_(None)).group_by(m.c.name, m.c.live).order_by(m.c.name)).all()
    for name, column, about in (
            ("machine_live", "live", "1: the DR machine answers."),
            ("queued_tasks", "queued", "Tasks that wait, by DR machine."),
            ("running_tasks", "running", "Tasks that are with their DR machine.")):
        yield _family(name, "gauge", about, [
            ({"machine": row.name}, int(getattr(row, column))) for row in machines])


def _each_rule(conn: Connection, now: float) -> Iterator[str]:
    r = schema.rule
    rows = conn.execute(
        sa.select(r.c.id, r.c.name, r.c.rpo_target_s, rpo.watched().label("watched"),
                  r.c.latest_point_at)
        .where(r.c.deleted_at.is_(None)).order_by(r.c.id).limit(MOST_RULES)).all()
    yield _family("rule_point_age_seconds", "gauge", "Age of the rule's newest restore point.", [
        ({"rule": row.id, "name": row.name}, max(0.0, now - row.latest_point_at))
        for row in rows if row.latest_point_at is not None])
    yield _family("rule_rpo_target_seconds", "gauge",
                  "How old it may become; no sample while nothing is promised.", [
                      ({"rule": row.id, "name": row.name}, row.rpo_target_s)
                      for row in rows if row.watched])


# --- the format ----------------------------------------------------------------------------------


def _family(name: str, kind: str, about: str, samples: Iterable[Sample]) -> str:
    return _head(name, kind, about) + "".join(
        _sample(name, labels, value) for labels, value in samples)


def _head(name: str, kind: str, about: str) -> str:
    return f"# HELP hotspare_{name} {about}\n# TYPE hotspare_{name} {kind}\n"


def _sample(name: str, labels: Mapping[str, Any], value: float) -> str:
    said = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
    return f"hotspare_{name}{{{said}}} {value}\n" if said else f"hotspare_{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
