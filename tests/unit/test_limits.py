"""The manual's limits: checked when read or changed, held by the dispatcher, shown to operators."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import hotspare
from hotspare.domain.bandwidth import Bandwidth, Range, check
from hotspare.domain.bandwidth_text import describe, parse, parse_all
from hotspare.domain.codec import decode, encode
from hotspare.domain.errors import HotspareError, Refused
from hotspare.domain.limits import Configured, Limits, bytes_of
from hotspare.services import queue
from hotspare.services.context import SERVICE
from hotspare.store import schema
from hotspare.worker import configuration
from unit.queue_rig import Yard, yard
from unit.service_rig import ADMIN, OPERATOR, VIEWER

MIB = 1 << 20
EXAMPLE = Path(hotspare.__file__).parents[2] / "packaging" / "worker.toml.example"


def refused(code: str, call: Any, *args: Any, **more: Any) -> HotspareError:
    with pytest.raises(HotspareError) as caught:
        call(*args, **more)
    assert caught.value.code == code, str(caught.value)
    return caught.value


# --- what is allowed (M19-M22) -------------------------------------------------------------------


@given(st.integers(-1, 70), st.integers(0, 40 * MIB))
def test_tasks_times_buffer_is_never_more_than_32_mib(tasks: int, buffer: int) -> None:
    try:
        Limits(tasks, buffer)
    except Refused as error:
        assert error.code in {"limits.max-tasks", "limits.buffer"}
        assert not 1 <= tasks <= 64 or buffer < 65536 or tasks * buffer > 32 * MIB
    else:
        assert 1 <= tasks <= 64 and tasks * buffer <= 32 * MIB


def test_the_manuals_defaults() -> None:
    assert Limits() == Limits(4, 4 * MIB)
    assert Configured().limits() == Limits()
    refused("limits.buffer", Configured, max_tasks=9)           # with the default of 4 MiB


def test_per_host_above_max_tasks_is_lowered_with_a_warning(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m", max_tasks=3)
        view = here.services.settings.get(VIEWER)
        assert (view.max_tasks_per_host, view.in_force) == (4, 3)
        assert [w["code"] for w in view.warnings] == ["limits.per-host-lowered"]
        here.start_all(here.rules(5, "a", "t", "m"))
        here.machine("big", max_tasks=8)
        view = here.services.settings.set(ADMIN, 6)
        assert (view.max_tasks_per_host, view.in_force, view.warnings) == (6, 6, [])
        here.start_all(here.rules(5, "a", "t", "big"))
        assert len(here.tasks()) == 6
        refused("auth.role", here.services.settings.set, OPERATOR, 2)
        refused("limits.per-host", here.services.settings.set, ADMIN, 65)


def test_a_lower_limit_lets_running_tasks_run(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m", max_tasks=4)
        here.start_all(here.rules(6, "a", "t", "m"))
        begun = here.tasks()
        assert len(begun) == 4
        view = here.services.machines.set(ADMIN, "m", max_tasks=2)
        assert (view.max_tasks, view.running, view.queued) == (2, 4, 2)
        for row in begun[:2]:
            here.end(row.id)
        assert len(here.tasks()) == 2
        here.services.machines.set(ADMIN, "m", max_tasks=4)     # and a higher one acts at once
        assert len(here.tasks()) == 4


def test_bytes_in_flight_to_a_host_count_over_all_machines(tmp_path: Path,
                                                           database: str | None) -> None:
    with yard(tmp_path, database) as here:
        for name in ("m1", "m2", "m3"):
            here.machine(name, max_tasks=4, transfer_buffer=8 * MIB)
        here.machine("wide", max_tasks=16, transfer_buffer=2 * MIB)
        here.services.settings.set(ADMIN, 16)
        for name in ("m1", "m2", "m3"):
            here.start_all(here.rules(3, f"source-{name}", "target", name))
        assert [row.target_host for row in here.tasks()] == ["id-target"] * 4   # 4 x 8 MiB
        waiting = here.tasks("queued")[0]
        reason = here.reason(waiting.id)
        assert reason["code"] == "queue.host-bytes"
        assert reason["fields"] | {"place": 0} == {
            "host": "target", "in_flight": 32 * MIB, "limit": 32 * MIB, "place": 0}
        # A buffer that changes does not change what is in flight already.
        here.services.machines.set(ADMIN, "m1", transfer_buffer=1 * MIB)
        assert sum(row.buffer for row in here.tasks()) == 32 * MIB
        here.end(here.tasks()[0].id)
        assert sum(row.buffer for row in here.tasks()) <= 32 * MIB


def test_an_instant_boot_passes_all_limits(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m", max_tasks=1)
        first, second = here.rules(2, "a", "t", "m")
        here.start(first)
        with here.services.context.change() as change:
            queue.move(change, second, queue_event("fail-over"))
            queue.enqueue(change, "failover", SERVICE, machine="m", rule=second, epoch=1, point=1)
        assert sorted(row.kind for row in here.tasks()) == ["failover", "replicate"]
        assert [row.buffer for row in here.tasks()] == [4 * MIB, None]


def test_tests_have_a_cap_of_their_own(tmp_path: Path, database: str | None) -> None:
    """A failover does not wait behind those that wait for it."""
    with yard(tmp_path, database) as here:
        here.machine("m", max_tasks=1)
        rules = here.rules(5, "a", "t", "m")
        with here.services.context.change() as change:
            tests = [queue.enqueue(change, "test", SERVICE, machine="m", rule=rule, epoch=1,
                                   point=1) for rule in rules[:4]]
        here.start(rules[0])
        assert [row.kind for row in here.tasks()] == ["test", "test", "replicate"]
        reason = here.reason(tests[3])
        assert reason["code"] == "queue.tests-full" and reason["fields"]["place"] == 2
        with here.services.context.change() as change:
            queue.move(change, rules[4], queue_event("fail-over"))
            queue.enqueue(change, "failover", SERVICE, machine="m", rule=rules[4], epoch=1,
                          point=1)
        assert [row.kind for row in here.tasks()][-1] == "failover"
        here.end(tests[0])
        assert [row.id for row in here.tasks() if row.kind == "test"] == tests[1:3]


def queue_event(name: str) -> Any:
    from hotspare.domain.rule_states import Event

    return Event(name)


def test_the_same_host_registered_twice_is_one_host(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m", max_tasks=4)
        here.services.settings.set(ADMIN, 1)
        here.start_all(here.rules(1, "a", "t", "m"))
        tasks = here.start_all(here.rules(1, "again", "u", "m"))
        assert len(here.tasks()) == 2
        waiting = here.start_all(here.rules(1, "again", "v", "m"))
        assert here.reason(next(iter(waiting)))["code"] == "queue.host-full"
        with here.services.context.change() as change:      # a check finds that it is the host a
            p = schema.platform
            change.conn.execute(sa.update(p).where(p.c.name == "again").values(host_id="id-a"))
            again = change.conn.execute(sa.select(p.c.id).where(p.c.name == "again")).scalar()
            queue.enqueue(change, "check", SERVICE, machine="m", platform=again)
        [checked] = [row for row in here.tasks() if row.kind == "check"]
        here.end(checked.id)
        here.end(next(iter(tasks)))
        [row] = here.tasks("queued")                        # a itself is full with its own rule
        assert row.source_host == "id-a"
        assert here.reason(row.id)["fields"]["host"] in {"a", "again"}


# --- what a rule waits for (M15, M23) ------------------------------------------------------------


def test_what_waits_is_queued_and_says_for_what(tmp_path: Path, database: str | None) -> None:
    with yard(tmp_path, database) as here:
        here.machine("m", max_tasks=2)
        rules = here.rules(4, "a", "t", "m")
        tasks = list(here.start_all(rules))
        assert [here.state(rule) for rule in rules] == ["started", "started", "queued", "queued"]
        assert here.reason(tasks[3]) == {"code": "queue.machine-full", "fields": {
            "machine": "m", "limit": 2, "place": 2}}
        here.end(tasks[0])
        assert here.state(rules[2]) == "started"
        assert here.reason(tasks[3])["fields"]["place"] == 1
        view = here.services.tasks.get(VIEWER, tasks[3])
        assert view.reason is not None and view.reason["message"].endswith("Place 1 in its queue.")
        assert here.services.tasks.get(VIEWER, tasks[2]).reason is None


def test_a_machine_that_reports_itself_busy(tmp_path: Path, database: str | None) -> None:
    """A one-off rule that was started is idle then (M15); a periodic one is queued."""
    busy = {"code": "worker.temp-dir", "fields": {"directory": "/tmp", "error": "full"}}
    with yard(tmp_path, database) as here:
        here.machine("m")
        once, periodic, resting = here.rules(3, "a", "t", "m")
        with here.services.context.change() as change:
            change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == periodic).values(
                schedule={"kind": "interval", "every_s": 60}))
        here.services.machines.report("m", busy)
        tasks = here.start_all([once, periodic])
        assert [here.state(r) for r in (once, periodic, resting)] == ["idle", "queued", "stopped"]
        reason = here.reason(next(iter(tasks)))
        assert reason["code"] == "queue.machine-busy"
        view = here.services.tasks.get(VIEWER, next(iter(tasks)))
        assert view.reason is not None and "/tmp" in view.reason["message"]
        assert here.services.machines.get(VIEWER, "m").busy is not None
        here.services.machines.report("m", None)
        assert [here.state(r) for r in (once, periodic)] == ["started", "started"]
        for task in tasks:
            here.end(task)
        assert here.state(once) == "finished"


def test_a_machine_without_room_reports_itself_busy(tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.worker import machine
    from unit.service_rig import wait_until

    with yard(tmp_path) as here:
        link = here.services.link("m", tmp_path / "temp")
        monkeypatch.setattr(machine, "LEAST_FREE", 1 << 62)
        worker = machine.start(link, tmp_path, tmp_path / "temp")
        try:
            busy = wait_until(lambda: here.services.machines.get(VIEWER, "m").busy)
            assert busy["code"] == "worker.temp-dir-full" and str(tmp_path) in busy["message"]
            [rule] = here.rules(1, "a", "t", "m")
            here.start(rule)
            assert here.state(rule) == "idle"
            monkeypatch.setattr(machine, "LEAST_FREE", 0)
            assert worker._obstacle() is None
            shutil.rmtree(tmp_path / "temp")
            (tmp_path / "temp").write_text("no directory")
            assert worker._obstacle()["code"] == "worker.temp-dir"  # type: ignore[index]
        finally:
            worker.stop()


# --- which side's value counts -------------------------------------------------------------------


def limits(here: Yard) -> tuple[int, int]:
    view = here.services.machines.get(VIEWER, "m")
    return view.max_tasks, view.transfer_buffer


def test_the_server_changes_until_the_file_changes(tmp_path: Path, database: str | None) -> None:
    with yard(tmp_path, database) as here:
        here.machine("m", max_tasks=2)                          # from the file
        assert limits(here) == (2, 4 * MIB)
        here.services.machines.set(ADMIN, "m", max_tasks=6, transfer_buffer=1 * MIB)
        here.machine("m", max_tasks=2)                          # a restart with the same file
        assert limits(here) == (6, 1 * MIB)
        here.machine("m", max_tasks=8)                          # the file was edited
        assert limits(here) == (8, 4 * MIB)                     # as the pair that was checked
        here.services.machines.set(ADMIN, "m", transfer_buffer=2 * MIB)
        here.machine("m")                                       # the line was removed
        assert limits(here) == (4, 4 * MIB)
        here.services.machines.register("m", "/tmp")            # no file was read at all
        assert limits(here) == (4, 4 * MIB)


def test_so_is_the_number_of_rules_of_a_host(tmp_path: Path, database: str | None) -> None:
    """One number for the whole fleet: whoever changed it last has set it."""
    def in_force() -> tuple[int, int]:
        view = here.services.settings.get(VIEWER)
        return view.max_tasks_per_host, view.in_force

    with yard(tmp_path, database) as here:
        here.machine("m", max_tasks=8, max_tasks_per_host=6)
        assert in_force() == (6, 6)
        here.services.settings.set(ADMIN, 3)
        here.machine("m", max_tasks=8, max_tasks_per_host=6)    # a restart with the same file
        here.machine("other", max_tasks=2)                      # a file that does not name it
        assert in_force() == (3, 3)
        tasks = here.start_all(here.rules(9, "a", "t", "m"))
        assert len(here.tasks()) == 3
        here.machine("other", max_tasks=2, max_tasks_per_host=20)
        assert in_force() == (20, 8), "lowered"
        assert here.services.settings.get(VIEWER).warnings[0]["code"] == "limits.per-host-lowered"
        assert len(here.tasks()) == 8, "it acts at once"
        here.machine("other", max_tasks=2)                      # the line was removed
        assert in_force() == (4, 4)
        for task in list(tasks)[:5]:
            here.end(task)
        assert len(here.tasks()) == 4
        audited = [a for a in here.services.users.audit(ADMIN).items if a.action == "settings.set"]
        assert [a.detail.get("machine") for a in audited].count("other") == 2


def test_bandwidth_of_a_machine_is_kept_the_same_way(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        weekend = Bandwidth("Asia/Shanghai", parse("sat,sun 1MiB"))
        here.services.machines.register("m", "/tmp", Configured(bandwidth=weekend))
        view = here.services.machines.get(VIEWER, "m")
        assert view.time_zone == "Asia/Shanghai"
        assert view.bandwidth == [{"days": [6, 7], "start": 0, "end": 1440, "limit": MIB}]
        here.services.machines.set(ADMIN, "m", bandwidth=parse("daily 0"))
        here.services.machines.register("m", "/tmp", Configured(2, bandwidth=weekend))
        view = here.services.machines.get(VIEWER, "m")
        assert view.bandwidth[0]["limit"] == 0 and view.max_tasks == 2
        here.services.machines.register("m", "/tmp", Configured(2))
        assert here.services.machines.get(VIEWER, "m").bandwidth == []
        refused("bandwidth.overlap", here.services.machines.set, ADMIN, "m",
                bandwidth=parse_all(["daily 0", "mon 1MiB"]))
        refused("schedule.zone", here.services.machines.set, ADMIN, "m", time_zone="Mars/Base")


def test_a_change_that_would_exceed_the_budget_is_refused(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m")
        error = refused("limits.buffer", here.services.machines.set, ADMIN, "m", max_tasks=9)
        assert error.fields["largest"] == 32 * MIB // 9
        refused("limits.buffer", here.services.machines.set, ADMIN, "m",
                transfer_buffer=9 * MIB)
        assert limits(here) == (4, 4 * MIB)
        here.services.machines.set(ADMIN, "m", max_tasks=16, transfer_buffer=2 * MIB)
        refused("machine.not-found", here.services.machines.set, ADMIN, "x", max_tasks=1)
        refused("auth.role", here.services.machines.set, OPERATOR, "m", max_tasks=1)
        audited = [a.action for a in here.services.users.audit(ADMIN).items]
        assert audited.count("machine.set") == 1


def test_two_operators_cannot_exceed_the_budget_together(tmp_path: Path,
                                                         database: str | None) -> None:
    """Each of the two changes is right by itself."""
    with yard(tmp_path, database) as here:
        here.machine("m")
        changes = [{"max_tasks": 8}, {"transfer_buffer": 8 * MIB}]

        def change(values: dict[str, int], together: Barrier) -> str:
            together.wait(10.0)
            try:
                here.services.machines.set(ADMIN, "m", **values)
            except HotspareError as error:
                return error.code
            return "ok"

        for _ in range(10):
            here.services.machines.set(ADMIN, "m", max_tasks=4, transfer_buffer=4 * MIB)
            together = Barrier(2)
            with ThreadPoolExecutor(2) as pool:
                ended = sorted(pool.map(change, changes, [together] * 2))
            assert ended == ["limits.buffer", "ok"]
            tasks, buffer = limits(here)
            assert tasks * buffer == 32 * MIB


def test_two_operators_set_the_first_value_of_a_setting_at_once(tmp_path: Path,
                                                                database: str | None) -> None:
    with yard(tmp_path, database) as here:
        here.machine("m", max_tasks=16, transfer_buffer=2 * MIB)
        together = Barrier(4)

        def change(value: int) -> int:
            together.wait(10.0)
            return int(here.services.settings.set(ADMIN, value).max_tasks_per_host)

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(change, range(5, 9))) == list(range(5, 9))
        assert here.services.settings.get(VIEWER).max_tasks_per_host in range(5, 9)
        audited = [a.action for a in here.services.users.audit(ADMIN).items]
        assert audited.count("settings.set") == 4


# --- the file ------------------------------------------------------------------------------------


def read(path: Path, text: str) -> configuration.Configuration:
    path.write_text(text)
    return configuration.read(path)


def test_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "worker.toml"
    found = read(file, 'max_tasks = 8\ntransfer_buffer = "512KiB"\ntemp_dir = "/srv/t"\n'
                       'max_tasks_per_host = 6\n'
                       'time_zone = "Europe/Berlin"\nbandwidth = ["mon-fri 09:00-18:00 10MiB"]\n')
    assert found == configuration.Configuration(Path("/srv/t"), Configured(8, 512 * 1024, Bandwidth(
        "Europe/Berlin", (Range((1, 2, 3, 4, 5), 540, 1080, 10 * MIB),)), 6))
    assert decode(Configured, encode(found.configured)) == found.configured
    monkeypatch.setenv(configuration.VARIABLE, str(file))
    assert configuration.read() == found
    assert read(file, "").configured == Configured()
    file.unlink()
    refused("config.unreadable", configuration.read)
    monkeypatch.delenv(configuration.VARIABLE)
    monkeypatch.setattr(configuration, "DEFAULT", file)
    assert configuration.read() == configuration.Configuration()     # the usual one may be missing


@pytest.mark.parametrize(("text", "code", "fields"), [
    ("bk_tsk_thd = 4", "config.old-name", {"new": "max_tasks"}),
    ("i2vp_transbuffer = 4", "config.old-name", {"new": "transfer_buffer"}),
    ("Max_ThreadNum_PerHost = 4", "config.old-name", {"new": "max_tasks_per_host"}),
    ("max_tasks_per_host = 65", "limits.per-host", {}),
    ('max_tasks_per_host = "4"', "config.value", {}),
    ("tasks = 4", "config.unknown", {"key": "tasks"}),
    ('max_tasks = "4"', "config.value", {"key": "max_tasks"}),
    ("max_tasks = true", "config.value", {}),
    ('temp_dir = "here"', "config.value", {"key": "temp_dir"}),
    ('bandwidth = "daily 0"', "config.value", {}),
    ('bandwidth = ["sometimes 0"]', "bandwidth.text", {}),
    ('bandwidth = ["daily 0", "mon 0"]', "bandwidth.overlap", {}),
    ('transfer_buffer = "lots"', "input.bytes", {}),
    ("max_tasks = 9", "limits.buffer", {"tasks": 9}),
    ("max_tasks = 65", "limits.max-tasks", {}),
    ("max_tasks = ", "config.syntax", {}),
])
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, code: str,
                                                    fields: dict[str, Any]) -> None:
    error = refused(code, read, tmp_path / "worker.toml", text)
    assert fields.items() <= error.fields.items()


def test_the_example_is_right_and_names_the_old_names(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    assert configuration.read(EXAMPLE) == configuration.Configuration()     # all is commented out
    lines = [line[1:] for line in text.splitlines() if re.match(r"#(?! \S)", line)]
    found = read(tmp_path / "worker.toml", "\n".join(lines))
    assert found.configured.limits() == Limits()                # it shows the defaults
    assert found.configured.bandwidth is not None and len(found.configured.bandwidth.ranges) == 4
    for old in ("bk_tsk_thd", "i2vp_transbuffer", "Max_ThreadNum_PerHost", "临时目录", "带宽控制"):
        assert old in text
    for key in configuration._KEYS:
        assert f"#{key} = " in text


# --- bytes and ranges as text --------------------------------------------------------------------


@pytest.mark.parametrize(("text", "number"), [
    ("65536", 65536), ("64KiB", 65536), ("4MiB", 4 * MIB), ("4 m", 4 * MIB), ("1G", 1 << 30),
    ("0", 0), ("7b", 7)])
def test_bytes(text: str, number: int) -> None:
    assert bytes_of(text) == number


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "MiB", "4XiB", "1" * 20])
def test_no_bytes(text: str) -> None:
    refused("input.bytes", bytes_of, text)


def test_ranges() -> None:
    assert parse("fri-mon,wed 22:00-06:00 1MiB/s") == (
        Range((1, 3, 5, 6, 7), 1320, 1440, MIB), Range((1, 2, 4, 6, 7), 0, 360, MIB))
    assert parse("sun 22:00-00:00 0") == (Range((7,), 1320, 1440, 0),)
    assert parse("daily 00:00-24:00 5") == (Range((1, 2, 3, 4, 5, 6, 7), 0, 1440, 5),)


@pytest.mark.parametrize("text", ["", "mon", "mon 9-18 1", "mon 09:00-09:00 1", "mon 24:00-25:00 1",
                                  "mon 09:60-10:00 1", "noday 1", "mon-,tue 1", "mon 1 2 3"])
def test_no_ranges(text: str) -> None:
    refused("bandwidth.text", parse, text)


@given(st.sets(st.integers(1, 7), min_size=1), st.integers(0, 1439), st.integers(1, 1440),
       st.integers(0, 2**40))
def test_a_range_is_described_as_it_is_read(days: set[int], start_: int, end: int,
                                            limit: int) -> None:
    if start_ >= end:
        start_, end = end - 1, start_ + 1
    span = Range(tuple(sorted(days)), start_, end, limit)
    check(Bandwidth(ranges=(span,)))
    assert parse(describe(span)) == (span,)


# --- REST and command line -----------------------------------------------------------------------


def test_settings_and_machines_over_rest_and_command_line(tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from hotspare.cli.main import app
    from unit.service_rig import rig, served

    def run(*words: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == code, (words, done.stdout, done.stderr, done.exception)
        return json.loads(done.stdout)

    (tmp_path / "state").mkdir()
    with rig(tmp_path / "state") as made, served(made) as server:
        made.services.users.add(ADMIN, "admin", "a long password", "administrator")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("HOTSPARE_PASSWORD", "a long password")
        for name in ("HOTSPARE_STATE_DIR", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name, raising=False)
        run("login", "--server", server.url, "--ca", str(server.ca))
        assert run("settings", "show")["max_tasks_per_host"] == 4
        shown = run("settings", "set", "max_tasks_per_host", "9")
        assert shown["in_force"] == 4 and shown["warnings"][0]["remedy"]
        assert run("settings", "set", "max_tasks_per_host", "65", code=2)["error"]
        found = run("machine", "set", "local", "--max-tasks", "8", "--transfer-buffer", "2MiB",
                    "--bandwidth", "mon-fri 09:00-18:00 10MiB", "--bandwidth", "sun 0",
                    "--time-zone", "Asia/Shanghai")
        assert (found["max_tasks"], found["transfer_buffer"]) == (8, 2 * MIB)
        assert len(found["bandwidth"]) == 2
        error = run("machine", "set", "local", "--transfer-buffer", "8MiB", code=2)["error"]
        assert error["code"] == "limits.buffer"
        assert run("machine", "set", "local", "--bandwidth", "soon", code=2)["error"]["code"] == \
            "bandwidth.text"
        assert run("machine", "set", "local", "--bandwidth", "none")["bandwidth"] == []
        assert run("machine", "show", "nobody", code=3)["error"]["code"] == "machine.not-found"
        text = CliRunner().invoke(app, ["machine", "show", "local"]).stdout
        assert "0 of 8 (max_tasks)" in text and "2.0 MiB" in text
