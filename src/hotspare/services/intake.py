"""Reports of DR machines, applied: those that wait for the database's one writer go together.

Each change has a lock to take, rows to read, a commit to sync; with two hundred machines that
report at once most of that is the same for all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from ..domain.codec import encode
from ..domain.errors import HotspareError, Refused
from ..store import by_the_value, schema
from ..workflows.link import Progress
from ..workflows.wire import Call, Report, Reported
from . import link_statements as sql
from . import queue
from .context import Change, Context
from .reports import Batch, Reports

_log = logging.getLogger(__name__)

_T = schema.task
# not IN: SQLAlchemy cannot execute that for several rows at once
_PROGRESS: Final = sa.update(_T).where(_T.c.id == sa.bindparam("b_task"),
                                       sa.or_(*(_T.c.state == state for state in queue.BEGUN)))


@dataclass(slots=True)
class _Said:
    """One report; ``progress`` is of tasks of that machine, to be stored."""

    reports: Reports
    report: Report
    progress: Mapping[int, Progress]
    done: bool = False
    last: int = 0
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: BaseException | None = None


class Intake:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[_Said] = []
        self._guard, self._turn = threading.Lock(), threading.Lock()

    def take(self, reports: Reports, report: Report,
             progress: Mapping[int, Progress]) -> Reported:
        """Apply what is new of the report, in its order and in one transaction. What a call is
        refused for is answered and does not keep the others from being applied."""
        said = _Said(reports, report, progress)
        with self._guard:
            self._waiting.append(said)
        with self._turn:
            if not said.done:
                with self._guard:
                    waiting, self._waiting = self._waiting, []
                self._together(waiting)
        if said.error is not None:
            raise said.error
        return Reported(said.last, said.refused)

    def _together(self, waiting: Sequence[_Said]) -> None:
        try:
            self._apply(waiting)
        except Exception as error:
            for said in waiting:
                if len(waiting) > 1:
                    self._together([said])
                else:               # one of its calls is refused: a savepoint each tells which
                    _log.debug("a report is not applied as a whole: %r", error)
                    self._one_by_one(said)
        finally:
            for said in waiting:
                said.done = True

    def _apply(self, waiting: Sequence[_Said]) -> None:
        """All of all, or nothing."""
        with self._context.change() as change:
            last = _reported(change, waiting)
            new: list[tuple[_Said, Call]] = []
            for said in waiting:
                new += [(said, c) for c in said.report.calls if c.seq > last[said.reports.machine]]
                last[said.reports.machine] = max(
                    [last[said.reports.machine], *(c.seq for c in said.report.calls)])
            batch = Batch.of(change.conn, [call for _, call in new])
            for said, call in new:
                said.reports.apply(change, call, _at(change, said, call), batch)
            batch.write(change)
            _store(change, waiting, last)
        for said in waiting:
            said.last = last[said.reports.machine]

    def _one_by_one(self, said: _Said) -> None:
        machine, refused = said.reports.machine, {}
        try:
            with self._context.change() as change:
                last = _reported(change, [said])
                for call in said.report.calls:
                    if call.seq > last[machine]:
                        error = _tried(change, said, call)
                        if error is not None:
                            refused[str(call.seq)] = error.as_dict()
                        last[machine] = max(last[machine], call.seq)
                _store(change, [said], last)
            said.last, said.refused = last[machine], refused
        except Exception as error:
            said.error = error


def _reported(change: Change, waiting: Sequence[_Said]) -> dict[str, int]:
    """Number of the last call that was applied of each machine."""
    machines = list({said.reports.machine for said in waiting})
    return {row.name: row.reported
            for row in change.conn.execute(sql.ALL_REPORTED, {"machines": machines})}


def _store(change: Change, waiting: Sequence[_Said], last: Mapping[str, int]) -> None:
    for machine, seq in last.items():
        change.write_last(sql.SET_REPORTED, {"b_machine": machine, "reported": seq})
    for said in waiting:
        for task, progress in said.progress.items():
            change.write_last(_PROGRESS, {"b_task": task, "progress": encode(progress)})


def _at(change: Change, said: _Said, call: Call) -> float:
    """When it happened, by our clock."""
    return min(change.now, max(0.0, call.at - said.report.ahead))


def _tried(change: Change, said: _Said, call: Call) -> HotspareError | None:
    try:
        with change.savepoint():
            batch = Batch()
            said.reports.apply(change, call, _at(change, said, call), batch)
            batch.write(change)
            change.finish()
    except HotspareError as error:
        return error
    except Exception as error:
        if isinstance(error, DBAPIError) and not by_the_value(error):
            raise                   # of the database, not of the call: the machine says it again
        # Said again it would fail again, and keep all that follows from being heard.
        _log.warning("report %s of task %s", call.call, call.task, exc_info=True)
        return Refused("input.invalid", summary=f"{call.call}: {error!r:.200}")
    return None
