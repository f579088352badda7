"""The scheduler on real databases, with a clock that only the tests move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from hotspare.domain.bandwidth import Range
from hotspare.domain.errors import Refused
from hotspare.domain.schedule import Schedule
from hotspare.services import LocalLink, NewRule, Services
from hotspare.services.views import RuleView
from hotspare.store import schema
from unit.service_rig import ADMIN, OPERATOR, VIEWER

HOUR = 3600
EVERY_MINUTE = Schedule("interval", every_s=60)
ALL_WEEK = (1, 2, 3, 4, 5, 6, 7)


@dataclass
class Bench:
    """Services with rules between two platforms, and the link of their DR machine."""

    services: Services
    link: LocalLink
    now: list[float]
    made: int = 0

    def rule(self, when: Schedule | None, **more: Any) -> str:
        self.made += 1
        with self.services.context.change() as change:
            change.conn.execute(sa.insert(schema.platform_vm).values(
                platform="srcsrc", ref=f"u{self.made}", name=f"web{self.made}", power="off",
                size=1, protectable=True, reason="", fields={}))
        return self.services.rules.create(OPERATOR, NewRule(
            f"r{self.made}", "src", f"u{self.made}", "dst", "default", schedule=when, **more)).id

    def started(self, when: Schedule, **more: Any) -> str:
        """A rule whose first run, begun by hand now, has ended."""
        rule = self.rule(when, **more)
        self.services.rules.start(OPERATOR, rule)
        self.finish()
        return rule

    def finish(self, outcome: Any = "ok") -> None:
        """The task that runs ends."""
        t = schema.task
        with self.services.context.read() as conn:
            task = conn.execute(sa.select(t.c.id).where(t.c.state != "ended")).scalar_one()
        handed = self.link.task(task)
        assert handed is not None
        self.link.step(handed, "transfer", "running", {})
        self.link.finish(handed, outcome, None, {})

    def view(self, rule: str) -> RuleView:
        return self.services.rules.get(VIEWER, rule)

    def runs(self, rule: str) -> list[str]:
        """Who began its runs, newest first."""
        t = schema.task
        with self.services.context.read() as conn:
            return list(conn.execute(sa.select(t.c.trigger).where(t.c.rule == rule)
                                     .order_by(t.c.id.desc())).scalars())

    def tick(self, to: float | None = None) -> float | None:
        """The scheduler's look at its clock, at ``to``. Answers when it wants to look again."""
        if to is not None:
            self.now[0] = to
        return self.services.scheduler.run_due()


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.code == code


def berlin(*when: int) -> float:
    return datetime(*when, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path, database: str | None) -> Iterator[Bench]:
    now = [1_800_000_000.0]
    services = Services.open(tmp_path, clock=lambda: now[0], database=database)
    try:
        link = services.link("local", tmp_path)
        with services.context.change() as change:
            for name in ("src", "dst"):
                change.conn.execute(sa.insert(schema.platform).values(
                    id=name * 2, name=name, name_key=name, kind="libvirt", uri=name, options={},
                    machine="local", state="ok", product="", host_id=name, checks=[],
                    places=[{"kind": "storage", "name": "default", "usable": True,
                             "parent": ""}], refreshed_at=1.0, created_at=1.0))
        yield Bench(services, link, now)
    finally:
        services.stop()
        services.close()


# --- intervals -----------------------------------------------------------------------------------


def test_a_run_longer_than_its_interval_overlaps_nothing_and_is_followed_by_one(
        bench: Bench) -> None:
    start = bench.now[0]
    rule = bench.rule(EVERY_MINUTE)
    bench.services.rules.start(OPERATOR, rule)
    assert bench.tick(start + 30) is None                   # it runs: nothing is due
    bench.finish()
    assert bench.tick() == start + 60                       # from start to start
    assert bench.tick(start + 61) is None                   # 1 s late; it runs
    for minute in range(2, 10):
        bench.tick(start + minute * 60)
        assert bench.runs(rule) == ["schedule", "manual"]
    bench.now[0] = start + 561
    bench.finish()
    bench.tick()                                            # what was missed meanwhile: one run
    assert bench.runs(rule) == ["schedule", "schedule", "manual"]
    bench.finish()
    assert bench.tick() == start + 600                      # the grid stands
    assert len(bench.runs(rule)) == 3


def test_after_a_downtime_one_run_is_made_up_for(bench: Bench) -> None:
    start = bench.now[0]
    rule = bench.started(EVERY_MINUTE)
    assert bench.tick(start + 10 * HOUR + 7) is None
    assert bench.runs(rule) == ["schedule", "manual"]
    bench.finish()
    assert bench.tick() == start + 10 * HOUR + 60
    assert len(bench.runs(rule)) == 2


def test_a_failed_run_does_not_end_the_schedule(bench: Bench) -> None:
    start = bench.now[0]
    rule = bench.started(EVERY_MINUTE)
    bench.tick(start + 60)
    bench.finish("failed")
    assert bench.tick() == start + 120
    assert bench.view(rule).state == "idle"


def test_a_stopped_rule_and_a_one_off_rule_are_never_started(bench: Bench) -> None:
    start = bench.now[0]
    stopped, once = bench.started(EVERY_MINUTE), bench.rule(None)
    bench.services.rules.stop(OPERATOR, stopped)
    bench.services.rules.start(OPERATOR, once)
    bench.finish()
    assert bench.tick(start + HOUR) is None
    assert (bench.runs(stopped), bench.runs(once)) == (["manual"], ["manual"])
    assert (bench.view(stopped).state, bench.view(once).state) == ("stopped", "finished")


def test_a_start_by_hand_begins_a_free_interval_anew_and_keeps_a_grid_with_a_start_time(
        bench: Bench) -> None:
    start = bench.now[0] = berlin(2027, 6, 1, 1)
    free = bench.started(Schedule("interval", every_s=HOUR))
    fixed = bench.started(Schedule("interval", every_s=HOUR, at="02:15"),
                          time_zone="Europe/Berlin")
    assert bench.view(free).next_run_at == start + HOUR
    assert bench.view(fixed).next_run_at == berlin(2027, 6, 1, 2, 15)
    bench.services.rules.stop(OPERATOR, free)
    bench.tick(berlin(2027, 6, 1, 2, 15))
    bench.finish()
    later = bench.now[0] = berlin(2027, 6, 1, 2, 40)
    for rule in (free, fixed):
        bench.services.rules.start(OPERATOR, rule)
        bench.finish()
    assert bench.view(free).next_run_at == later + HOUR
    assert bench.view(fixed).next_run_at == berlin(2027, 6, 1, 3, 15)
    bench.services.rules.stop(OPERATOR, free)
    bench.tick(berlin(2027, 6, 1, 9, 0))
    assert bench.view(fixed).next_run_at == berlin(2027, 6, 1, 9, 15)


# --- by the calendar -----------------------------------------------------------------------------


def test_a_daily_rule_runs_once_on_each_day_of_a_change_of_the_clocks(bench: Bench) -> None:
    """The scheduler looks every ten minutes for three days around each change."""
    for first, last in (((2027, 3, 27), (2027, 3, 30)), ((2027, 10, 30), (2027, 11, 2))):
        bench.now[0] = berlin(*first)
        rule = bench.started(Schedule("daily", at="02:30"), time_zone="Europe/Berlin")
        begun = []
        for at in range(int(berlin(*first)), int(berlin(*last)), 600):
            before = len(bench.runs(rule))
            bench.tick(float(at))
            if len(bench.runs(rule)) > before:
                begun.append(datetime.fromtimestamp(at, ZoneInfo("Europe/Berlin")))
                bench.finish()
        bench.services.rules.stop(OPERATOR, rule)
        assert [b.strftime("%d %H:%M") for b in begun] == {
            3: ["27 02:30", "28 03:00", "29 02:30"],
            10: ["30 02:30", "31 02:30", "01 02:30"]}[first[1]]


# --- edits ---------------------------------------------------------------------------------------


def test_an_edit_of_the_schedule_acts_at_once(bench: Bench) -> None:
    start = bench.now[0] = berlin(2027, 6, 1, 1)
    rule = bench.started(Schedule("interval", every_s=10 * HOUR))
    assert bench.tick(start + 300) == start + 10 * HOUR
    edit = bench.services.rules.edit
    edit(OPERATOR, rule, {"schedule": {"kind": "interval", "every_s": 600}})
    assert bench.tick() == start + 600
    edit(OPERATOR, rule, {"schedule": {"kind": "daily", "at": "02:30"},
                          "time_zone": "Europe/Berlin"})
    assert bench.tick() == berlin(2027, 6, 1, 2, 30)
    edit(OPERATOR, rule, {"time_zone": "Asia/Shanghai"})    # 02:30 there was hours ago
    assert bench.tick() == berlin(2027, 6, 1, 20, 30)


def test_the_thread_wakes_for_an_edit(bench: Bench) -> None:
    """It would have slept for seconds."""
    rule = bench.started(Schedule("interval", every_s=10 * HOUR))
    bench.services.start()
    time.sleep(0.2)
    bench.now[0] += 700
    bench.services.rules.edit(OPERATOR, rule, {"schedule": {"kind": "interval", "every_s": 10}})
    bench.now[0] += 10
    with bench.services.context.change() as change:
        change.notify("schedule")
    end = time.monotonic() + 2
    while bench.runs(rule) != ["schedule", "manual"]:
        assert time.monotonic() < end
        time.sleep(0.01)


# --- ranges without bandwidth --------------------------------------------------------------------


def test_no_run_begins_in_a_range_without_bandwidth(bench: Bench) -> None:
    """Ten runs are due in the range; one begins at its end, and the grid goes on."""
    bench.now[0] = berlin(2027, 6, 1, 8, 5)
    rule = bench.started(Schedule("interval", every_s=HOUR), time_zone="Europe/Berlin",
                         bandwidth=(Range(ALL_WEEK, 9 * 60, 18 * 60 + 30, 0),))
    for hour in range(9, 18):
        assert bench.tick(berlin(2027, 6, 1, hour, 5)) == berlin(2027, 6, 1, 18, 30)
    view = bench.view(rule)
    assert bench.runs(rule) == ["manual"]
    assert (view.state, view.next_run_at) == ("idle", berlin(2027, 6, 1, 18, 30))
    assert view.pause is not None and view.pause["code"] == "schedule.bandwidth"
    assert view.pause["fields"]["until"] == berlin(2027, 6, 1, 18, 30)
    bench.tick(berlin(2027, 6, 1, 18, 30))
    assert bench.runs(rule) == ["schedule", "manual"]
    assert bench.view(rule).pause is None
    bench.finish()
    assert bench.tick() == berlin(2027, 6, 1, 19, 5)


def test_a_range_that_is_taken_away_lets_the_run_begin_at_once(bench: Bench) -> None:
    always = (Range(ALL_WEEK, 0, 24 * 60, 0),)
    rule = bench.started(EVERY_MINUTE, bandwidth=always)
    assert bench.tick(bench.now[0] + 61) is None            # never, as it stands
    assert bench.view(rule).next_run_at is None
    bench.services.rules.edit(OPERATOR, rule, {"bandwidth": []})
    bench.tick()
    assert bench.runs(rule) == ["schedule", "manual"]


def test_the_dr_machines_own_range_holds_too(bench: Bench) -> None:
    bench.now[0] = berlin(2027, 6, 1, 8, 0)
    rule = bench.started(Schedule("interval", every_s=HOUR))
    m = schema.machine
    with bench.services.context.change() as change:
        change.conn.execute(sa.update(m).values(
            time_zone="Europe/Berlin",
            bandwidth=[{"days": list(ALL_WEEK), "start": 540, "end": 600, "limit": 0}]))
    assert bench.tick(berlin(2027, 6, 1, 9, 0)) == berlin(2027, 6, 1, 10, 0)
    assert bench.runs(rule) == ["manual"]
    bench.services.rules.stop(OPERATOR, rule)
    assert bench.view(rule).pause is None


def test_a_move_leaves_the_old_machines_range_behind(bench: Bench) -> None:
    """Put off for ever by the one machine, it would never be looked at again."""
    rule = bench.started(EVERY_MINUTE)
    bench.services.machines.set(ADMIN, "local", bandwidth=(Range(ALL_WEEK, 0, 24 * 60, 0),))
    assert bench.tick(bench.now[0] + 61) is None
    assert bench.view(rule).next_run_at is None
    bench.services.link("second", Path("/tmp"))
    bench.services.moves.rule(ADMIN, rule, "second")
    bench.tick()
    assert bench.runs(rule) == ["schedule", "manual"]
    assert bench.view(rule).pause is None


# --- faults --------------------------------------------------------------------------------------


def test_a_rule_that_cannot_be_started_says_why_and_keeps_nobody_from_it(bench: Bench) -> None:
    start = bench.now[0]
    bad, good = bench.started(EVERY_MINUTE), bench.started(EVERY_MINUTE)
    with bench.services.context.change() as change:         # a zone that an update took away
        change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == bad).values(
            time_zone="Mars/Olympus", schedule={"kind": "daily", "at": "02:30"}))
    assert bench.tick(start + 61) == start + 121            # tried again a minute later
    assert bench.runs(good) == ["schedule", "manual"]
    view = bench.view(bad)
    assert (view.state, bench.runs(bad)) == ("idle", ["manual"])
    assert view.pause is not None and view.pause["code"] == "schedule.zone"


def test_rules_of_a_machine_that_is_down_wait_for_it(bench: Bench) -> None:
    start = bench.now[0]
    rule = bench.started(EVERY_MINUTE)
    bench.services.context.uptime = lambda: 0.0
    bench.services.machines.seen("local")
    bench.services.context.uptime = lambda: 31.0
    bench.services.machines.watch()
    assert bench.view(rule).state == "invalid"
    assert bench.tick(start + HOUR) is None
    bench.services.machines.seen("local")
    bench.tick()
    assert bench.runs(rule) == ["schedule", "manual"]


# --- many ----------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """Many rules, idle and due, over many machines and hosts."""

    bench: Bench
    rules: int
    machines: int
    hosts: int
    made: list[str] = field(default_factory=list)

    def make(self) -> None:
        first = self.bench.started(Schedule("interval", every_s=900))
        r, m, p = schema.rule, schema.machine, schema.platform
        with self.bench.services.context.change() as change:
            conn = change.conn
            row = dict(conn.execute(sa.select(r).where(r.c.id == first)).one()._mapping)
            machine = dict(conn.execute(sa.select(m)).one()._mapping)
            platform = dict(conn.execute(sa.select(p).where(p.c.name == "src")).one()._mapping)
            conn.execute(sa.insert(m), [
                machine | {"name": f"m{i}"} for i in range(self.machines)])
            conn.execute(sa.insert(p), [
                platform | {"id": f"{side}{i}", "name": f"{side}{i}", "name_key": f"{side}{i}",
                            "uri": f"{side}{i}", "host_id": f"{side}{i}"}
                for side in "pt" for i in range(self.hosts)])
            conn.execute(sa.insert(r), [
                row | {"id": f"c{i}", "name": f"c{i}", "name_key": f"c{i}", "vm": f"c{i}",
                       "vm_key": f"c{i}", "source": f"p{i % self.hosts}",
                       "target": f"t{i % self.hosts}", "machine": f"m{i % self.machines}",
                       "next_run_at": change.now + 1}
                for i in range(self.rules)])


def test_ten_thousand_rules_due_at_once_are_begun_in_bounded_time(
        bench: Bench, database: str | None) -> None:
    """At the rate that the benchmark asks for, 50 a second; what is begun is dispatched up to the
    limits, and the rest waits. On PostgreSQL a tenth of them, which takes its time too."""
    rules = 10_000 if database is None else 1_000
    Crowd(bench, rules, machines=rules // 50, hosts=rules // 50).make()
    bench.now[0] += 2
    began = time.perf_counter()
    batches = 0
    while (due := bench.tick()) is not None and due <= bench.now[0]:
        batches += 1
    took = time.perf_counter() - began
    t, r = schema.task, schema.rule
    with bench.services.context.read() as conn:
        states = dict(conn.execute(sa.select(t.c.state, sa.func.count()).where(
            t.c.trigger == "schedule").group_by(t.c.state)).all())
        shown = dict(conn.execute(sa.select(r.c.state, sa.func.count()).where(
            r.c.source.like("p%")).group_by(r.c.state)).all())     # no id that is made has a p
    given = rules // 50 * 4
    assert states == {"dispatched": given, "queued": rules - given}
    assert shown == {"started": given, "queued": rules - given}
    print(f"{rules / took:.0f} runs a second, {batches} batches")
    assert took < rules / 50


def test_the_next_start_is_one_look_at_an_index(bench: Bench) -> None:
    if bench.services.context.store.engine.dialect.name != "sqlite":
        pytest.skip("SQLite's plan")
    Crowd(bench, rules=100, machines=1, hosts=1).make()
    seen: list[str] = []

    @sa.event.listens_for(bench.services.context.store.engine, "before_cursor_execute")
    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "next_run_at IS NOT NULL" in statement and statement.startswith("SELECT"):
            seen.append(statement)

    bench.now[0] += 2
    bench.tick()
    assert seen
    with bench.services.context.read() as conn:
        for statement in seen:
            count = statement.count("?")
            plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}",
                                        (1,) * count).all()
            assert any("ix_rule_state (state=? AND next_run_at" in str(step)
                       for step in plan) and "TEMP" not in str(plan), (statement, plan)


# --- preview -------------------------------------------------------------------------------------


def test_the_preview_is_what_then_happens(bench: Bench) -> None:
    bench.now[0] = berlin(2027, 3, 27, 12)
    ranges = (Range((7,), 0, 4 * 60, 0),)
    when = Schedule("daily", at="02:30")
    shown = bench.services.schedules.preview(VIEWER, when, "Europe/Berlin", ranges, "src")
    assert [(r.planned_local, r.begins_local) for r in shown.runs][:3] == [
        ("2027-03-28T03:00:00+02:00", "2027-03-28T04:00:00+02:00"),
        ("2027-03-29T02:30:00+02:00", "2027-03-29T02:30:00+02:00"),
        ("2027-03-30T02:30:00+02:00", "2027-03-30T02:30:00+02:00")]
    assert shown.longest_gap_s == 25 * HOUR
    rule = bench.started(when, time_zone="Europe/Berlin", bandwidth=ranges)
    begun = []
    while len(begun) < len(shown.runs):
        due = bench.tick()
        assert due is not None
        before = len(bench.runs(rule))
        bench.tick(due)
        if len(bench.runs(rule)) > before:
            begun.append(due)
            bench.finish()
    assert begun == [r.begins for r in shown.runs]


def test_a_preview_refuses_what_a_rule_would(bench: Bench) -> None:
    preview = bench.services.schedules.preview
    with refused("schedule.interval"):
        preview(VIEWER, Schedule("interval", every_s=5), "UTC")
    with refused("schedule.zone"):
        preview(VIEWER, EVERY_MINUTE, "Mars/Olympus")
    never = preview(VIEWER, EVERY_MINUTE, "UTC", (Range(ALL_WEEK, 0, 1440, 0),))
    assert [r.begins for r in never.runs] == [None]
