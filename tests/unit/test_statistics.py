"""What runs add to the statistics; objectives that are missed; full copies nobody expected."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import sqlalchemy as sa

from hotspare.client import Client, Session, shapes
from hotspare.domain.bandwidth import Bandwidth, Range
from hotspare.domain.errors import HotspareError, Refused
from hotspare.domain.lineage import Manifest
from hotspare.services import rpo, task_figures
from hotspare.services.day_sums import add_to_day, day_of
from hotspare.services.rpo import _longest_pause_s, watch_rpo
from hotspare.store import schema
from hotspare.workflows.wire import Call, Report
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, manifest, rig, served

DAY_S = 86400.0
FIGURES: dict[str, Any] = {
    "full": False, "bytes_queried": 4 << 20, "bytes_read": 3 << 20, "bytes_moved": 2 << 20,
    "bytes_zero": 1 << 20, "stall_s": 0.09, "retries": 1, "transfer_s": 4.0}


@dataclass
class Made:
    """Services whose clock is set by hand, and a DR machine that is played step by step."""

    rig: Rig
    now: float = field(default_factory=time.time)
    points: dict[str, list[Manifest]] = field(default_factory=dict)

    @property
    def services(self) -> Any:
        return self.rig.services

    def run(self, rule: str, outcome: Any = "ok", took: float = 10.0,
            figures: dict[str, Any] | None = None) -> int:
        link = self.rig.link
        number = self.services.rules.start(OPERATOR, rule)
        task = link.next_task(5.0)
        assert task is not None and task.id == number
        link.step(task, "transfer", "running", {})
        taken_at = self.now
        self.now += took
        link.step(task, "transfer", "done", {})
        if outcome in {"ok", "warning"}:
            points = self.points.setdefault(rule, [])
            made = manifest(task, len(points) + 1)
            points.append(Manifest(**{f: getattr(made, f) for f in made.__slots__}
                                   | {"taken_at": taken_at}))
            link.adopt(task, tuple(points))
        error = {"code": "target.no-space", "fields": {"disk": "vda", "offset": 0}}
        link.finish(task, outcome, error if outcome == "failed" else None,
                    FIGURES | (figures or {}))
        return number

    def row(self, rule: str) -> Any:
        with self.services.context.read() as conn:
            return conn.execute(sa.select(schema.rule).where(schema.rule.c.id == rule)).one()

    def codes(self, rule: str) -> list[str]:
        return [line.code for line in self.services.logs.page(ADMIN, rule=rule, limit=500).items]


@contextmanager
def making(folder: Path, database: str | None = None) -> Iterator[Made]:
    with rig(folder, database=database) as it:
        it.platforms()
        it.player.stop()
        made = Made(it)
        it.services.context.clock = lambda: made.now
        yield made


@pytest.fixture
def made(tmp_path: Path, database: str | None) -> Iterator[Made]:
    with making(tmp_path, database) as it:
        yield it


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Made]:
    """On SQLite only."""
    with making(tmp_path) as it:
        yield it


# --- one task ------------------------------------------------------------------------------------


def test_a_task_keeps_its_figures(made: Made) -> None:
    rule = made.rig.rule()
    view = made.services.tasks.get(ADMIN, made.run(rule, took=10.0))
    assert {name: getattr(view, name) for name in (
        "full", "bytes_queried", "bytes_read", "bytes_moved", "bytes_zero", "stall_s", "retries",
        "rate")} == {"full": False, "bytes_queried": 4 << 20, "bytes_read": 3 << 20,
                     "bytes_moved": 2 << 20, "bytes_zero": 1 << 20, "stall_s": 0.09,
                     "retries": 1, "rate": (2 << 20) / 4.0}
    [step] = view.steps
    assert step.ended_at - step.started_at == pytest.approx(10.0)


@pytest.mark.parametrize("figures", [
    {}, {"bytes_read": "x", "stall_s": None, "retries": None}, {"bytes_moved": -5},
    {"bytes_moved": 10**30, "retries": 10**12, "stall_s": float("nan"), "full": "yes"},
    {"bytes_read": 1.5, "bytes_zero": [1], "stall_s": -1.0}])
def test_figures_of_a_strange_machine_do_no_harm(lone: Made, figures: dict[str, Any]) -> None:
    values = task_figures.columns(figures)
    assert values["full"] is False
    assert all(0 <= values[name] <= 2**53 for name in task_figures.BYTES)
    assert values["stall_s"] is None and 0 <= values["retries"] < 2**31


def test_tasks_as_csv(made: Made) -> None:
    rule = made.rig.rule()
    first, second = made.run(rule), made.run(rule, "failed")
    rows = list(csv.DictReader(io.StringIO(
        "".join(made.services.tasks.file(VIEWER, rule)).removeprefix("\ufeff"))))
    assert [row["task"] for row in rows] == [str(second), str(first)]
    assert rows[1]["bytes_moved"] == str(2 << 20)
    assert rows[1]["seconds_by_step"] == "transfer=10.0"
    assert (rows[0]["outcome"], rows[0]["error"]) == ("failed", "target.no-space")
    assert len(list(made.services.tasks.file(VIEWER, None, "queued"))) == 1     # the header


# --- sums ----------------------------------------------------------------------------------------


def test_runs_add_up_by_day_for_rule_group_and_all(made: Made) -> None:
    made.now = 1_800_000_000.0      # 2027-01-15, 08:00
    services = made.services
    a, b = made.rig.rule("a", "web0"), made.rig.rule("b", "web1")
    with services.context.change() as change:
        change.conn.execute(sa.insert(schema.rule_group).values(
            id="aaaabbbb", name="G", name_key="g", created_at=0, created_by="x"))
        change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == b)
                            .values(group="aaaabbbb"))
    made.run(a, took=10.0, figures={"full": True})
    made.run(a, "failed", took=20.0)
    made.run(b, "warning", took=30.0)
    made.now += DAY_S
    made.run(a, took=40.0)
    made.run(a, "stopped", took=5.0)

    one = services.statistics.rule(VIEWER, "a", days=7)
    assert [d.day for d in one.by_day] == ["2027-01-15", "2027-01-16"]
    assert [(d.ok, d.failed, d.stopped, d.full) for d in one.by_day] == [
        (1, 1, 0, 1), (1, 0, 1, 0)]
    assert one.by_day[0].seconds == pytest.approx(30.0)
    assert one.total.runs == 4 and one.total.success_ratio == pytest.approx(2 / 3)
    assert one.total.bytes_moved == 4 * (2 << 20)
    assert one.total.bytes_a_day == pytest.approx(4 * (2 << 20) / 2)
    assert one.total.mean_seconds == pytest.approx(75 / 4)
    assert (one.points, one.size, one.stored) == (2, 1 << 30, 2 << 20)

    grouped = services.statistics.scope(VIEWER, "G", days=7)
    assert (grouped.rules, grouped.name, grouped.total.runs) == (1, "G", 1)
    everything = services.statistics.scope(VIEWER, days=7)
    assert everything.rules == 2 and everything.total.runs == 5
    assert everything.total.warning == 1 and everything.points == 3
    assert everything.by_day[0].bytes_read == 3 * (3 << 20)
    [storage] = everything.storages
    assert (storage.platform_name, storage.storage, storage.rules, storage.stored,
            storage.free) == ("dst", "default", 2, 3 << 20, 1 << 40)
    # only the days that are asked for
    assert services.statistics.scope(VIEWER, days=1).total.runs == 2
    made.now += 30 * DAY_S
    empty = services.statistics.rule(VIEWER, "a", days=7).total
    assert (empty.runs, empty.success_ratio, empty.bytes_a_day) == (0, None, 0.0)


def test_the_longest_gap_is_how_old_a_point_became_before_the_next(made: Made) -> None:
    rule = made.rig.rule()
    made.run(rule, took=10.0)
    made.now += 90.0
    made.run(rule, took=5.0)        # 10 + 90 + 5 since the first point was taken
    made.now += 20.0
    made.run(rule, took=5.0)
    [day] = made.services.statistics.rule(VIEWER, rule).by_day[-1:]
    assert day.longest_gap_s == pytest.approx(105.0)


def test_a_run_that_is_reported_late_belongs_to_the_day_on_which_it_ended(made: Made) -> None:
    """The network was cut over midnight."""
    made.now = 1_800_000_000.0      # 2027-01-15, 08:00
    rule, link = made.rig.rule(), made.rig.link
    number = made.services.rules.start(OPERATOR, rule)
    task = link.next_task(5.0)
    assert task is not None and task.id == number
    began = made.now
    calls = [Call(n, name, task.id, task.epoch, began + at, body) for n, (name, at, body) in
             enumerate((
                 ("step", 5.0, {"step": "transfer", "state": "running", "detail": {}}),
                 ("step", 65.0, {"step": "transfer", "state": "done", "detail": {}}),
                 ("finish", 66.0, {"outcome": "ok", "error": None, "figures": FIGURES})), 1)]
    made.now += 2 * DAY_S
    assert link.reported(Report(calls=tuple(calls))).refused == {}
    [day] = made.services.statistics.rule(VIEWER, rule).by_day
    assert (day.day, day.ok, day.seconds) == ("2027-01-15", 1, pytest.approx(60.0))
    [total] = made.services.statistics.scope(VIEWER).by_day
    assert total.day == "2027-01-15"


def test_adding_at_once_loses_nothing(made: Made) -> None:
    """What two transactions add to the same row is both in it."""
    rule = made.rig.rule()

    def add(n: int) -> None:
        with made.services.context.change() as change:
            add_to_day(change, rule, None, ok=1, bytes_moved=n, longest_gap_s=float(n))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(1, 41)))
    [day] = made.services.statistics.rule(VIEWER, rule).by_day
    assert (day.ok, day.bytes_moved, day.longest_gap_s) == (40, 820, 40.0)


def test_a_deleted_rule_is_found_by_its_id(made: Made) -> None:
    rule = made.rig.rule()
    made.run(rule)
    services = made.services
    task = services.rules.delete(OPERATOR, rule, False)
    given = made.rig.link.next_task(5.0)
    assert given.id == task
    made.rig.link.adopt(given, ())
    made.rig.link.finish(given, "ok", None, {})
    assert services.statistics.rule(VIEWER, rule).total.ok == 1
    with pytest.raises(HotspareError) as caught:
        services.statistics.rule(VIEWER, "r1")
    assert caught.value.code == "rule.not-found"
    assert services.statistics.scope(VIEWER).total.ok == 1      # what ran, ran
    with pytest.raises(HotspareError) as caught:
        services.statistics.scope(VIEWER, "none")
    assert caught.value.code == "group.not-found"


# --- objectives ----------------------------------------------------------------------------------


def test_the_target_follows_the_schedule_and_the_runs(made: Made) -> None:
    rule = made.rig.rule(interval_s=600)
    watch_rpo(made.services.context)
    assert made.row(rule).rpo_target_s == 900.0         # half of the interval until a run tells
    made.run(rule, took=400.0, figures={"full": True})
    assert made.row(rule).rpo_target_s == 900.0         # the first copy is not typical
    for took in (100.0, 300.0, 140.0):
        made.now += 600.0
        made.run(rule, took=took)
    assert made.row(rule).rpo_target_s == pytest.approx(600.0 + 2 * 140.0)
    made.services.rules.edit(OPERATOR, rule, {"rpo_s": 1234})
    assert made.row(rule).rpo_target_s == 1234.0
    made.services.rules.edit(OPERATOR, rule, {"rpo_s": None, "schedule": {
        "kind": "daily", "at": "02:00"}})
    assert made.row(rule).rpo_target_s == pytest.approx(DAY_S * 1.1)    # a tenth at least
    made.services.rules.edit(OPERATOR, rule, {"schedule": None})
    assert made.row(rule).rpo_target_s is None


def test_a_range_without_bandwidth_is_part_of_the_target(lone: Made) -> None:
    rule = lone.rig.rule(interval_s=600)
    lone.services.rules.edit(OPERATOR, rule, {"bandwidth": [
        {"days": [1, 2, 3], "start": 540, "end": 660, "limit": 0}]})
    assert lone.row(rule).rpo_target_s == 900.0 + 2 * 3600.0
    shanghai = Bandwidth("Asia/Shanghai", (Range((1, 2), 1380, 1440, 0), Range((2, 3), 0, 30, 0)))
    assert _longest_pause_s(shanghai) == 5400.0
    follows = Bandwidth("UTC", (Range((1, 2, 3, 4, 5, 6, 7), 16 * 60 + 30, 17 * 60, 0),))
    assert _longest_pause_s(shanghai, follows) == 7200.0        # one ends as the other begins
    assert _longest_pause_s(Bandwidth("UTC", (Range((1, 2, 3, 4, 5, 6, 7), 0, 1440, 0),))) == 0.0
    assert _longest_pause_s(Bandwidth("UTC", (Range((1,), 0, 60, 5),))) == 0.0


def test_a_missed_objective_is_said_once_and_so_is_its_end(made: Made) -> None:
    rule = made.rig.rule(interval_s=600)
    context = made.services.context
    made.run(rule, took=5000.0)
    assert watch_rpo(context) == 0                      # the first copy takes as long as it takes
    made.now += 600.0
    made.run(rule, took=100.0)
    target = made.row(rule).rpo_target_s
    made.now += target - 100.0 - 1.0
    assert watch_rpo(context) == 0
    made.now += 2.0
    assert watch_rpo(context) == 1 and watch_rpo(context) == 0
    assert made.row(rule).rpo_violated_at == pytest.approx(made.now - 1.0)
    made.run(rule, "failed", took=1.0)
    assert watch_rpo(context) == 0
    view = made.services.statistics.rule(VIEWER, rule)
    assert view.rpo.kept is False and view.total.violations == 1
    assert made.services.statistics.scope(VIEWER).rpo.violated == 1
    made.run(rule, took=10.0)
    assert watch_rpo(context) == 1 and watch_rpo(context) == 0
    assert made.services.statistics.rule(VIEWER, rule).rpo.kept is True
    told = [c for c in made.codes(rule) if c.startswith("rule.rpo")]
    assert told == ["rule.rpo-violated", "rule.rpo-kept"]


def test_nothing_is_promised_without_a_point_or_when_stopped(made: Made) -> None:
    services, context = made.services, made.services.context
    new = made.rig.rule("new", "web0", interval_s=60)
    once = made.rig.rule("once", "web1")
    stopped = made.rig.rule("stopped", "web2", interval_s=60)
    made.run(once)
    made.run(stopped)
    made.run(stopped)
    watch_rpo(context)
    made.now += 1000.0
    assert watch_rpo(context) == 1
    assert made.row(stopped).rpo_violated_at is not None
    services.rules.stop(OPERATOR, stopped)
    assert watch_rpo(context) == 1                      # taken back without a word
    assert made.row(stopped).rpo_violated_at is None
    assert [c for c in made.codes(stopped) if "rpo" in c] == ["rule.rpo-violated"]
    made.now += 10 * DAY_S
    assert watch_rpo(context) == 0
    for rule in (new, once, stopped):
        assert services.statistics.rule(VIEWER, rule).rpo.kept is None
    everything = services.statistics.scope(VIEWER).rpo
    assert (everything.watched, everything.violated, everything.unprotected) == (0, 0, 1)
    # a one-off rule that names an objective is held to it
    services.rules.edit(OPERATOR, once, {"rpo_s": 3600})
    assert watch_rpo(context) == 1
    assert services.statistics.rule(VIEWER, once).rpo.kept is False


def test_many_at_once_are_told_in_batches(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpo, "_BATCH", 2)
    rules = [made.rig.rule(f"r{i}", f"web{i}", interval_s=60) for i in range(3)]
    for rule in rules:
        made.run(rule)
        made.run(rule)
    made.now += DAY_S
    assert watch_rpo(made.services.context) == 3
    assert all(made.row(rule).rpo_violated_at for rule in rules)


def test_a_channel_is_told(lone: Made) -> None:
    lone.services.notifications.add(ADMIN, name="hook", url="json://127.0.0.1:1/x")
    rule = lone.rig.rule(interval_s=60)
    for _ in range(2):
        lone.run(rule, figures={"full": True, "full_reason": "tracking.broken"})
    lone.now += DAY_S
    watch_rpo(lone.services.context)
    with lone.services.context.read() as conn:
        events = conn.execute(sa.select(schema.delivery.c.event)
                              .order_by(schema.delivery.c.id)).scalars().all()
    assert list(events) == ["rule.unexpected-full"] * 2 + ["rule.rpo-violated"]


# --- full copies ---------------------------------------------------------------------------------


def test_a_full_copy_that_was_not_expected_is_loud_the_second_time(made: Made) -> None:
    rule = made.rig.rule()
    broken = {"full": True, "full_reason": "tracking.broken"}

    def told() -> list[tuple[str, str]]:
        return [(x.level, x.code) for x in made.services.logs.page(ADMIN, rule=rule).items
                if "full" in x.code]

    made.run(rule, figures={"full": True})              # the first copy
    assert told() == [] and made.row(rule).full_runs == 0
    made.run(rule, figures=broken)
    assert told() == [("warning", "rule.unexpected-full")]
    made.run(rule, "failed", figures=broken)            # it made no point: not counted
    made.run(rule, figures=broken)
    assert told()[1:] == [("error", "rule.unexpected-full-again")]
    assert made.row(rule).full_runs == 2
    assert made.services.statistics.rule(VIEWER, rule).full_runs == 2
    made.run(rule)
    assert made.row(rule).full_runs == 0
    made.run(rule, figures=broken)
    assert told()[2:] == [("warning", "rule.unexpected-full")]


# --- REST and client -----------------------------------------------------------------------------


def test_over_rest(lone: Made, tmp_path: Path) -> None:
    rule = lone.rig.rule()
    lone.run(rule)
    lone.services.users.add(ADMIN, "vera", "long enough", "viewer")
    with served(lone.rig) as server:
        with Client(Session(server.url, "", str(server.ca))) as client:
            token = client.login("vera", "long enough")["token"]
        with Client(Session(server.url, token, str(server.ca))) as client:
            assert client.rule_statistics("r1", 7)["total"]["ok"] == 1
            assert client.statistics(7)["rules"] == 1
            client.save_statistics(tmp_path / "days.csv", 7, rule="r1")
            client.save_tasks(tmp_path / "tasks.csv", "r1", None)
            for path, field in (("days.csv", "bytes_moved"), ("tasks.csv", "bytes_moved")):
                with (tmp_path / path).open(encoding="utf-8-sig", newline="") as file:
                    [row] = csv.DictReader(file)
                assert row[field] == str(2 << 20)
            for days in (0, 100_000):
                with pytest.raises(HotspareError) as caught:
                    client.statistics(days)
                assert caught.value.code == "input.invalid"
            schemas = client.request("GET", "/openapi.json")["components"]["schemas"]
            for shape, view in (
                    (shapes.Day, "DayView"), (shapes.Total, "TotalView"), (shapes.Rpo, "RpoView"),
                    (shapes.RuleStatistics, "RuleStatistics"), (shapes.Storage, "StorageView"),
                    (shapes.ScopeRpo, "ScopeRpoView"), (shapes.ScopeStatistics, "ScopeStatistics")):
                assert set(get_type_hints(shape)) == set(schemas[view]["properties"]), view


def test_days_are_those_of_utc() -> None:
    assert day_of(1_800_000_000.0) == "2027-01-15"
    assert day_of(1_800_000_000.0 - 8 * 3600 - 1) == "2027-01-14"


# --- scale ---------------------------------------------------------------------------------------


@pytest.mark.soak
def test_ten_thousand_rules_of_ninety_days_answer_quickly(lone: Made) -> None:
    rules, days = 10_000, 90
    base = lone.rig.rule()
    with lone.services.context.change() as change:
        row = dict(change.conn.execute(sa.select(schema.rule).where(
            schema.rule.c.id == base)).one()._mapping)
        change.conn.execute(sa.insert(schema.rule), [row | {
            "id": f"{i:08x}", "name": f"n{i}", "name_key": f"n{i}", "vm": f"v{i}",
            "vm_key": f"k{i}", "points": 7, "latest_point": 7, "latest_point_at": lone.now - i,
            "rpo_target_s": 1e6, "enabled": True, "schedule": {"kind": "interval",
                                                               "every_s": 900}}
            for i in range(1, rules + 1)])
        for d in range(days):
            day = day_of(lone.now - d * DAY_S)
            change.conn.execute(sa.insert(schema.rule_day), [
                {"rule": f"{i:08x}", "day": day, "ok": 96, "bytes_moved": 10**9}
                for i in range(1, rules + 1)])
            change.conn.execute(sa.insert(schema.total_day).values(
                scope="", day=day, ok=96 * rules, bytes_moved=10**13))
    for call in (lambda: lone.services.statistics.scope(VIEWER, days=days),
                 lambda: lone.services.statistics.rule(VIEWER, "n500", days=days),
                 lambda: watch_rpo(lone.services.context),
                 lambda: lone.services.metrics.text(VIEWER, rules=False)):
        took = []
        for _ in range(40):
            began = time.perf_counter()
            call()
            took.append(time.perf_counter() - began)
        print(f"p50 {sorted(took)[20] * 1000:.1f} ms, p95 {sorted(took)[37] * 1000:.1f} ms")
        assert sorted(took)[37] < 0.1
    assert lone.services.statistics.scope(VIEWER, days=days).total.ok == 96 * rules * days


def test_the_client_s_refusal_of_a_file_that_cannot_be_written(lone: Made) -> None:
    with served(lone.rig) as server:
        lone.services.users.add(ADMIN, "vera", "long enough", "viewer")
        with Client(Session(server.url, "", str(server.ca))) as client:
            token = client.login("vera", "long enough")["token"]
        with Client(Session(server.url, token, str(server.ca))) as client, pytest.raises(
                Refused) as caught:
            client.save_tasks(Path("/proc/no/such"), None, None)
    assert caught.value.code == "input.file-write"
