"""An installed version is upgraded: what the first release's own code stored is all there, and goes
on. ``data/database-0001.sql`` is what that code made of rules in many states, with tasks under way;
it is never to be made anew."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.schedule import Schedule
from hotspare.services import Services
from hotspare.store import Store, schema
from hotspare.store.dump import dump, load
from hotspare.store.engine import sqlite_url
from testbeds.postgres import Postgres
from unit.service_rig import ADMIN, OPERATOR, Player, Rig, wait_until

OLD = Path(__file__).parent / "data" / "database-0001.sql"
KEY = bytes.fromhex("cfd39a1609c23221b420784c49ccb803befeefce144cba45a7a4a547a822008f")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The state directory of the first release."""
    folder = tmp_path / "state"
    folder.mkdir(0o700)
    with closing(sqlite3.connect(folder / "hotspare.db")) as conn:
        conn.executescript(OLD.read_text())
    for name, content in (("hotspare.db", None), ("secret.key", KEY)):
        path = folder / name
        if content is not None:
            path.write_bytes(content)
        path.chmod(0o600)
    return folder


@pytest.fixture
def old(installed: Path) -> dict[str, list[dict[str, Any]]]:
    """All its rows, as that version's schema has them."""
    with closing(sqlite3.connect(installed / "hotspare.db")) as conn:
        conn.row_factory = sqlite3.Row
        names = [n for (n,) in conn.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
        return {n: [dict(row) for row in conn.execute(f'SELECT * FROM "{n}"')]
                for n in names}


@pytest.fixture(params=["in place", "to PostgreSQL"])
def upgraded(request: pytest.FixtureRequest, installed: Path, tmp_path: Path) -> Iterator[Rig]:
    url = None
    if request.param == "to PostgreSQL":        # a restored backup takes the same way
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.create()
        with closing(Store(sqlite_url(installed / "hotspare.db"))) as before, \
                closing(Store(url)) as after, before.read() as source, after.write() as conn:
            load(conn, dump(source))
    services = Services.open(installed, database=url)
    player = Player(services.link("local", tmp_path / "temp"))
    try:
        yield Rig(installed, services, player)
        assert not player.errors, player.errors
    finally:
        services.context.hub.close()
        player.stop()
        services.stop()
        services.close()


def rows(made: Rig, table: sa.Table) -> list[Any]:
    with made.services.context.read() as conn:
        return list(conn.execute(sa.select(table).order_by(*table.primary_key)).all())


def test_no_row_is_lost_and_no_value_changed(upgraded: Rig,
                                             old: dict[str, list[dict[str, Any]]]) -> None:
    assert len(old["rule"]) == 10 and len(old["restore_point"]) == 8 and len(old["task"]) == 20
    gone = {"rule": {"bandwidth", "interval_s"}, "task": {"reason"},
            "machine": {"live", "last_seen", "temp_dir", "version"}}     # it registered anew
    for name, before in old.items():
        if name == "alembic_version":
            continue
        table = schema.metadata.tables[name]
        key = [c.name for c in table.primary_key]
        after = {tuple(getattr(r, k) for k in key): r for r in rows(upgraded, table)}
        assert len(after) == len(before), name
        for row in before:
            new = after[tuple(row[k] for k in key)]
            for column, value in row.items():
                if column in gone.get(name, ()):
                    continue
                wanted: Any = value
                if isinstance(table.c[column].type, sa.JSON) and value is not None:
                    wanted = json.loads(value)
                assert getattr(new, column) == wanted, (name, column, row)


def test_settings_are_what_they_meant(upgraded: Rig) -> None:
    week = (1, 2, 3, 4, 5, 6, 7)

    def limits(rule: Any) -> list[tuple[Any, ...]]:
        return [(tuple(r.days), r.start, r.end, r.limit) for r in rule.bandwidth]

    rules = {r.name: r for r in upgraded.services.rules.list(ADMIN).items}
    assert set(rules) == {"periodic", "once", "paused", "over", "failed", "stopped", "running",
                          "more8", "more9"}
    assert rules["periodic"].schedule == Schedule("interval", 900)
    assert limits(rules["periodic"]) == [(week, 0, 1440, 10_000_000)]
    assert rules["paused"].schedule == Schedule("interval", 31 * 86400)
    assert limits(rules["paused"]) == [(week, 0, 1440, 0)]
    assert rules["once"].schedule is None and limits(rules["once"]) == []
    assert rules["periodic"].enabled and not rules["once"].enabled
    assert {(r.time_zone, r.fast_transfer, r.delete_replica) for r in rules.values()} == {
        ("UTC", True, False)}
    assert {n: r.points for n, r in rules.items() if r.points} == {
        "periodic": 2, "once": 2, "over": 2, "stopped": 2}
    assert rules["periodic"].latest_point == 2
    assert {n: r.state for n, r in rules.items()} == {
        "periodic": "idle", "once": "finished", "paused": "stopped", "over": "temporary-failover",
        "failed": "idle", "stopped": "stopped", "running": "running", "more8": "running",
        "more9": "running"}
    assert rules["failed"].last_error["code"] == "vm.not-found"
    for name, rule in rules.items():
        assert upgraded.services.rules.points(ADMIN, rule.id).items or not rule.points, name
        upgraded.services.logs.page(ADMIN, rule=rule.id)
        upgraded.services.statistics.rule(ADMIN, rule.id)
    assert upgraded.services.machines.list(ADMIN).items[0].max_tasks == 4


def test_secrets_and_passwords_open(upgraded: Rig) -> None:
    platform = upgraded.services.platforms.get(ADMIN, "secret").id
    with upgraded.services.context.read() as conn:
        secret = conn.execute(sa.select(schema.platform.c.secret).where(
            schema.platform.c.id == platform)).scalar_one()
    assert upgraded.services.context.keys.decrypt(secret, platform) == "canary-7f3a"
    assert upgraded.services.users.login("admin", "a long password", "here").role == (
        "administrator")


def test_what_was_under_way_goes_on_and_all_rules_run(upgraded: Rig) -> None:
    made, rules = upgraded, upgraded.services.rules
    running = {r.id: r.last_task for r in rules.list(ADMIN).items if r.state == "running"}
    assert len(running) == 3
    made.player.start()
    wait_until(lambda: all(made.state(r) in {"idle", "finished"} for r in running))
    assert {made.services.tasks.get(ADMIN, t).outcome for t in (18, 19, 20)} == {"ok"}
    for name in ("periodic", "failed", "stopped"):
        ident = rules.get(ADMIN, name).id
        task = made.run(ident)
        assert (task.outcome, task.id > 20) == ("ok", True)
    view = rules.get(ADMIN, "periodic")
    assert 0 < view.next_run_at - time.time() <= 901
    over = rules.get(ADMIN, "over").id
    made.ended(rules.undo(OPERATOR, over))
    assert made.state(over) == "idle"
    made.ended(rules.delete(OPERATOR, over, False))


def test_an_upgrade_that_is_cut_off_begins_again(installed: Path,
                                                 old: dict[str, list[dict[str, Any]]],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure at its end leaves the database of the version before, which that one opens."""
    from alembic import op

    def broken(*_args: Any) -> None:
        raise OSError("as if the host died")

    with monkeypatch.context() as patched:
        patched.setattr(op, "drop_column", broken)
        with pytest.raises(OSError, match="host died"):
            Services.open(installed)
    with closing(sqlite3.connect(installed / "hotspare.db")) as conn:
        assert conn.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        conn.row_factory = sqlite3.Row
        for name, before in old.items():
            assert [dict(r) for r in conn.execute(f'SELECT * FROM "{name}"')] == (
                before), name
    services = Services.open(installed)
    assert services.rules.get(ADMIN, "periodic").points == 2
    services.close()
