"""The preview of a schedule through REST and the CLI, and the CLI's words for schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

import httpx
import pytest
import typer

from hotspare.cli.schedules import parse_days, parse_schedule
from hotspare.client import shapes
from unit.service_rig import Served, prepared, rig, served
from unit.test_cli import Cli


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with rig(prepared(tmp_path_factory.mktemp("schedules"))) as made, served(made) as it:
        yield it


@pytest.fixture(scope="module")
def raw(server: Served) -> Iterator[httpx.Client]:
    import ssl

    token = server.rig.services.users.local_token()
    with httpx.Client(base_url=f"{server.url}/api/v1",
                      verify=ssl.create_default_context(cafile=str(server.ca)),
                      headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def asked(raw: httpx.Client, schedule: Any, **more: Any) -> httpx.Response:
    return raw.post("/schedules/preview", json={"schedule": schedule, **more})


def test_five_runs_and_the_longest_gap(raw: httpx.Client) -> None:
    answer = asked(raw, {"kind": "weekly", "at": "02:30", "weekdays": [1, 4]},
                   time_zone="Asia/Shanghai", source="src").json()
    assert len(answer["runs"]) == 5
    assert all(r["planned_local"].endswith("T02:30:00+08:00") for r in answer["runs"])
    assert all(r["begins"] == r["planned"] for r in answer["runs"])
    assert (answer["time_zone"], answer["longest_gap_s"]) == ("Asia/Shanghai", 4 * 86400)


@pytest.mark.parametrize(("schedule", "more", "code"), [
    ({"kind": "interval", "every_s": 9}, {}, "schedule.interval"),
    ({"kind": "interval"}, {}, "schedule.interval"),
    ({"kind": "interval", "every_s": "900"}, {}, "input.invalid"),
    ({"kind": "interval", "every_s": 900.0}, {}, "input.invalid"),
    ({"kind": "daily"}, {}, "schedule.no-start-time"),
    ({"kind": "daily", "at": "25:00"}, {}, "input.invalid"),
    ({"kind": "daily", "at": "02:30", "day": 3}, {}, "schedule.field"),
    ({"kind": "daily", "at": "02:30", "extra": 3}, {}, "input.invalid"),
    ({"kind": "weekly", "at": "02:30", "weekdays": [1, 1]}, {}, "schedule.weekdays"),
    ({"kind": "hourly", "at": "02:30"}, {}, "input.invalid"),
    ({"kind": "daily", "at": "02:30"}, {"time_zone": "Mars/Olympus"}, "schedule.zone"),
    ({"kind": "daily", "at": "02:30"}, {"source": "nothing"}, "platform.not-found"),
    ({"kind": "daily", "at": "02:30"}, {"bandwidth": [
        {"days": [1], "start": 60, "end": 30, "limit": 0}]}, "bandwidth.times"),
])
def test_what_is_refused(raw: httpx.Client, schedule: Any, more: Any, code: str) -> None:
    answer = asked(raw, schedule, **more)
    assert answer.json()["error"]["code"] == code
    assert 400 <= answer.status_code < 500


def test_the_clients_shapes_are_the_servers(raw: httpx.Client) -> None:
    schemas = raw.get("/openapi.json").json()["components"]["schemas"]
    for shape, view in ((shapes.SchedulePreview, "PreviewView"), (shapes.PlannedRun, "RunView")):
        assert set(get_type_hints(shape)) == set(schemas[view]["properties"])


def test_the_command(server: Served, tmp_path_factory: pytest.TempPathFactory) -> None:
    cli = Cli(tmp_path_factory.mktemp("home"), {
        "HOTSPARE_SERVER": server.url, "HOTSPARE_CA": str(server.ca),
        "HOTSPARE_TOKEN": server.rig.services.users.local_token()})
    shown = cli("schedule", "preview", "--monthly", "31@02:30", "--zone", "Europe/Berlin").stdout
    assert shown.count("T02:30:00+0") == 5 and "Longest time" in shown
    waits = cli("schedule", "preview", "--daily", "10:00",
                "--bandwidth", "daily 09:00-18:00 0").stdout
    assert waits.count("T18:00:00+00:00") == 5
    data = cli.json("schedule", "preview", "--every", "15m")
    assert {b["planned"] - a["planned"] for a, b in zip(
        data["runs"], data["runs"][1:], strict=False)} == {900}
    refused = cli("schedule", "preview", "--daily", "02:30", "--zone", "Mars/Olympus", code=2)
    assert "Europe/Berlin" in refused.stderr
    cli("schedule", "preview", "--daily", "10:00", "--bandwidth", "someday 0", code=2)
    cli("schedule", "preview", code=2)
    cli("schedule", "preview", "--daily", "02:30", "--every", "1h", code=2)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "schedule"), [
    ({}, None),
    ({"every": "15m"}, {"kind": "interval", "every_s": 900, "at": None}),
    ({"every": "2h", "at": "2:30"}, {"kind": "interval", "every_s": 7200, "at": "02:30"}),
    ({"daily": "02:30"}, {"kind": "daily", "at": "02:30"}),
    ({"weekly": "mon,thu@02:30"}, {"kind": "weekly", "weekdays": [1, 4], "at": "02:30"}),
    ({"weekly": "Fri-Mon@22:00"}, {"kind": "weekly", "weekdays": [1, 5, 6, 7], "at": "22:00"}),
    ({"monthly": "31@02:30"}, {"kind": "monthly", "day": 31, "at": "02:30"}),
])
def test_schedules_in_words(words: dict[str, str], schedule: Any) -> None:
    assert parse_schedule(**words) == schedule


@pytest.mark.parametrize("words", [
    {"every": "soon"}, {"daily": "25:00"}, {"daily": "2.30"}, {"weekly": "mon"},
    {"weekly": "someday@02:30"}, {"weekly": "@02:30"}, {"monthly": "last@02:30"},
    {"monthly": "31"}, {"at": "02:30"}, {"daily": "02:30", "at": "02:30"},
    {"daily": "02:30", "every": "1h"}])
def test_words_that_are_no_schedule(words: dict[str, str]) -> None:
    with pytest.raises(typer.BadParameter):
        parse_schedule(**words)


def test_days_in_words() -> None:
    assert parse_days("mon-mon") == [1]
    assert parse_days("sat-sun, 3") == [3, 6, 7]
    assert parse_days("tue-mon") == [1, 2, 3, 4, 5, 6, 7]
