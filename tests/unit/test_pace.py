"""The pace of a running task: pauses, what they show, and clocks that are set meanwhile."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from hotspare.domain.bandwidth import Bandwidth
from hotspare.domain.bandwidth_text import parse_all
from hotspare.workflows import pace as pace_module
from hotspare.workflows.bench import Bench, Tools
from hotspare.workflows.link import Limits, Link, Task


class Server:
    """The other end of the task's link: what it was told, and the limits that it answers."""

    def __init__(self) -> None:
        self.limits_now = Limits()
        self.pauses: list[dict[str, Any] | None] = []
        self.said: list[str] = []

    def limits(self, _task: Task) -> Limits:
        return self.limits_now

    def pause(self, _task: Task, reason: dict[str, Any] | None) -> None:
        self.pauses.append(reason)

    def log(self, _task: Task, _level: str, code: str, _fields: dict[str, Any]) -> None:
        self.said.append(code)


class Paced:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.now = 0.0
        self.server = Server()
        monkeypatch.setattr(pace_module.time, "time", lambda: self.now)
        task = Task(id=1, kind="replicate", epoch=1, rule=None, platform=None, point=None,
                    arguments={})
        tools = Tools(link=cast(Link, self.server), borrow=cast(Any, None),
                      give_back=cast(Any, None), temp_dir=folder)
        self.bench = Bench(task, tools)
        self.pace = self.bench.pace

    def limit(self, rule: tuple[str, ...] = (), machine: tuple[str, ...] = (),
              zone: str = "UTC") -> None:
        self.server.limits_now = Limits(False, Bandwidth(zone, parse_all(rule)),
                                        Bandwidth("UTC", parse_all(machine)))
        self.bench._limits_at = 0.0

    def at(self, text: str, zone: str = "UTC", fold: int = 0) -> bool:
        """Set the clock; whether data may move."""
        self.now = datetime.fromisoformat(text).replace(
            tzinfo=ZoneInfo(zone), fold=fold).timestamp()
        return self.pace.follow()

    @property
    def until(self) -> str:
        reason = self.server.pauses[-1]
        assert reason is not None
        return f"{datetime.fromtimestamp(reason['fields']['until'], ZoneInfo('UTC')):%a %H:%M}"


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Paced:
    return Paced(monkeypatch, tmp_path)


def test_a_pause_is_shown_once_and_its_end_too(paced: Paced) -> None:
    paced.limit(rule=("mon 09:00-11:00 0",))
    assert paced.at("2026-03-02 08:59:59")
    assert not paced.at("2026-03-02 09:00")
    assert paced.until == "Mon 11:00" and paced.pace.waiting
    shown = len(paced.server.pauses)
    assert not paced.at("2026-03-02 10:00")
    assert len(paced.server.pauses) == shown
    assert paced.at("2026-03-02 11:00") and not paced.pace.waiting
    assert paced.server.pauses[-1] is None and paced.server.said == ["pause.rule", "pause.over"]


def test_the_lower_wins_and_a_pause_ends_when_neither_holds(paced: Paced) -> None:
    paced.limit(rule=("mon 09:00-11:00 0", "mon 11:00-24:00 4MiB"),
                machine=("mon 10:00-12:00 0", "mon 12:00-24:00 1MiB"))
    assert not paced.at("2026-03-02 10:30")
    assert paced.until == "Mon 12:00"
    assert not paced.at("2026-03-02 11:00")
    assert paced.server.pauses[-1]["code"] == "pause.machine"   # type: ignore[index]
    assert paced.at("2026-03-02 12:00")
    assert [t.limit for t in paced.pace.throttles] == [4 << 20, 1 << 20]


def test_an_edit_that_takes_the_end_away_is_said(paced: Paced) -> None:
    paced.limit(rule=("daily 09:00-11:00 0",))
    assert not paced.at("2026-03-02 10:00")
    paced.limit(rule=("daily 0",))
    assert not paced.at("2026-03-02 10:00")
    assert paced.server.pauses[-1] == {"code": "pause.rule-no-end", "fields": {"until": None}}
    paced.limit()
    assert paced.at("2026-03-02 10:00")


def test_a_clock_that_is_set_counts_from_then_on(paced: Paced) -> None:
    paced.limit(rule=("mon 09:00-11:00 0",))
    assert paced.at("2026-03-02 08:00")
    assert not paced.at("2026-03-02 09:30"), "put forward, into the range"
    assert paced.at("2026-03-02 08:30"), "put back, before it"
    assert not paced.at("2026-03-02 10:59")
    assert paced.at("2026-03-02 20:00"), "put forward over its end"


def test_over_midnight_the_end_of_the_week_and_both_changes_of_the_clocks(paced: Paced) -> None:
    berlin = "Europe/Berlin"
    paced.limit(rule=("sun 22:00-06:00 0",), zone=berlin)
    assert not paced.at("2026-03-01 23:59:59", berlin)
    assert paced.until == "Mon 05:00"
    assert not paced.at("2026-03-02 00:00", berlin) and paced.at("2026-03-02 06:00", berlin)
    paced.limit(rule=("sun 02:30-03:30 0",), zone=berlin)
    assert paced.at("2026-03-29 01:59:59", berlin)
    assert not paced.at("2026-03-29 03:00", berlin), "half of the range was skipped"
    assert paced.until == "Sun 01:30"
    assert paced.at("2026-03-29 03:30", berlin)
    assert not paced.at("2026-10-25 02:30", berlin, fold=0), "the hour comes twice"
    assert paced.at("2026-10-25 02:00", berlin, fold=1)
    assert not paced.at("2026-10-25 02:30", berlin, fold=1)


def test_no_instant_is_taken_shortly_before_a_pause(paced: Paced) -> None:
    paced.limit(rule=("mon 09:00-11:00 0",))
    assert paced.at("2026-03-02 08:59:49") and not paced.pace.closes()
    paced.at("2026-03-02 08:59:51")
    assert paced.pace.closes() and paced.until == "Mon 11:00"
