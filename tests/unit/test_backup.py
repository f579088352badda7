"""Backup, restore and the move between databases: nothing is lost, changed, or readable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import HotspareError, Refused
from hotspare.server import care
from hotspare.services import Services
from hotspare.services.context import SERVICE
from hotspare.store import Store, schema
from hotspare.store.dump import dump
from hotspare.store.engine import open_store, sqlite_url
from testbeds.postgres import Postgres
from unit.service_rig import ADMIN, rig

PASS = "correct horse battery"
CANARY = "canary-7f3a"


@pytest.fixture
def state(tmp_path: Path, database: str | None) -> Path:
    """With a rule that has points, a platform with a secret, users; at rest."""
    folder = tmp_path / "state"
    folder.mkdir(0o700)
    with rig(folder, database=database) as made:
        made.platforms()
        rule = made.rule()
        made.run(rule)
        made.run(rule)
        made.services.users.add(SERVICE, "admin", "a long password", "administrator")
        task = made.services.platforms.add(
            ADMIN, name="secret", kind="libvirt", uri="qemu+ssh://other/system",
            secret=CANARY).task
        made.ended(task)
    return folder


def content(state: Path, database: str | None) -> list[Any]:
    """All rows; of numbers that were given, only what follows from them."""
    with closing(open_store(state, database)) as store, store.read() as conn:
        return list(dump(conn))


def rows_of(items: list[Any], table: str) -> list[list[Any]]:
    start = next(i for i, x in enumerate(items) if isinstance(x, dict) and x.get("table") == table)
    found = []
    for item in items[start + 1:]:
        if not isinstance(item, list):
            break
        found.append(item)
    return found


@pytest.fixture
def saved(state: Path, database: str | None, tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    care.backup(state, database, path, PASS)
    return path


def test_a_backup_brings_all_back(state: Path, database: str | None, saved: Path,
                                  tmp_path: Path, postgres: Postgres) -> None:
    before = content(state, database)
    assert saved.stat().st_mode & 0o777 == 0o600
    new, url = tmp_path / "new", None if database is None else postgres.create()
    done = care.restore(new, url, saved, PASS)
    after = content(new, url)
    for table in schema.metadata.tables:
        if table not in {"token", "enrolment", "delivery", "audit", "setting"}:
            assert rows_of(after, table) == rows_of(before, table), table
    assert rows_of(after, "token") == []
    assert rows_of(after, "audit")[-1][3] == "admin.restore"
    assert done.rows["restore_point"] == 2
    services = Services.open(new, database=url)
    try:        # the key came with it
        row = services.context.store
        with row.read() as conn:
            secret, ident = conn.execute(sa.select(
                schema.platform.c.secret, schema.platform.c.id).where(
                schema.platform.c.name == "secret")).one()
        assert services.context.keys.decrypt(secret, ident) == CANARY
        link = services.link("local", tmp_path / "temp")
        assert link.next_task(0.0) is None
        # No number of a task is given twice, whatever ran between backup and loss.
        task = services.platforms.check(ADMIN, "src")
        assert task > 1_000_000_000
    finally:
        services.close()


def test_a_backup_is_made_and_restored_into_the_other_kind_of_database(
        state: Path, database: str | None, saved: Path, tmp_path: Path,
        postgres: Postgres) -> None:
    before = content(state, database)
    url = postgres.create() if database is None else None
    care.restore(tmp_path / "new", url, saved, PASS)
    after = content(tmp_path / "new", url)
    for table in ("rule", "restore_point", "task", "platform", "platform_vm", "log", "user"):
        assert rows_of(after, table) == rows_of(before, table), table


def test_what_ran_has_ended_and_the_targets_are_to_be_read(
        tmp_path: Path, database: str | None, postgres: Postgres) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    with rig(state, database=database) as made:
        made.platforms()
        rule = made.rule()
        made.player.hold.set()
        task = made.services.rules.start(ADMIN, rule)
        other = made.services.rules.start(ADMIN, made.rule("r2", "web1"))
        care.backup(state, database, tmp_path / "b", PASS)      # while all of it runs
        made.player.hold.clear()
        made.ended(task)
        made.ended(other)
    url = None if database is None else postgres.create()
    care.restore(tmp_path / "new", url, tmp_path / "b", PASS)
    services = Services.open(tmp_path / "new", database=url)
    try:
        for number in (task, other):
            found = services.tasks.get(ADMIN, number)
            assert (found.state, found.error["code"]) == ("ended", "task.restored")
        assert services.rules.get(ADMIN, rule).state == "stopped"
        with services.context.read() as conn:
            assert conn.execute(sa.select(schema.setting.c.key)).scalars().all() == ["rebuild"]
    finally:
        services.close()


def test_only_the_passphrase_opens_it_and_no_byte_may_change(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    assert CANARY.encode() not in whole

    def refused(code: str, content: bytes, passphrase: str = PASS) -> None:
        path = tmp_path / "changed"
        path.write_bytes(content)
        with pytest.raises(HotspareError) as caught:
            care.restore(tmp_path / "new", None, path, passphrase)
        assert caught.value.code == code
        assert not (tmp_path / "new" / "secret.key").exists()
        with closing(Store(sqlite_url(tmp_path / "new" / "hotspare.db"))) as store:
            assert store.empty()

    (tmp_path / "new").mkdir(0o700)
    (tmp_path / "new" / "hotspare.db").touch()
    refused("backup.passphrase", whole, "another one")
    refused("backup.format", b"no backup\n")
    refused("backup.damaged", whole[:-1])
    at = len(whole) - 100
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:]
    refused("backup.damaged" if len(whole) > 70_000 else "backup.passphrase", flipped)


def test_a_backup_that_lacks_its_last_piece_is_damaged(tmp_path: Path) -> None:
    from hotspare.server.sealed import SealedReader, SealedWriter

    path = tmp_path / "sealed"
    with path.open("wb") as file, SealedWriter(file, PASS) as sealed:
        for _ in range(3):
            sealed.write(b"x" * 65536)
    with path.open("rb") as file:
        assert SealedReader(file, PASS).read() == b"x" * 3 * 65536
    head = path.read_bytes().index(b"\n") + 1
    piece = 4 + 65536 + 16
    for pieces in (1, 2):
        cut = tmp_path / "cut"
        cut.write_bytes(path.read_bytes()[:head + pieces * piece])
        with cut.open("rb") as file, pytest.raises(Refused):
            SealedReader(file, PASS).read()


def test_what_is_there_is_not_replaced_without_force(state: Path, database: str | None,
                                                     saved: Path) -> None:
    def refused(code: str, call: Any, *args: Any) -> None:
        with pytest.raises(Refused) as caught:
            call(*args)
        assert caught.value.code == code

    refused("backup.exists", care.backup, state, database, saved, PASS)
    refused("restore.not-empty", care.restore, state, database, saved, PASS)
    with rig(state, database=database) as made:
        made.rule("later", "web2")
    key = (state / "secret.key").read_bytes()
    care.restore(state, database, saved, PASS, True)
    assert (state / "secret.key").read_bytes() == key
    with rig(state, database=database) as made:
        assert [r.name for r in made.services.rules.list(ADMIN).items] == ["r1"]
    care.backup(state, database, saved, PASS, True)


def test_nothing_is_restored_below_a_server_that_runs(saved: Path, state: Path) -> None:
    from hotspare.server.process import only_one

    with only_one(state), pytest.raises(Refused) as caught:
        care.restore(state, None, saved, PASS, True)
    assert caught.value.code == "server.running"


def test_nothing_is_restored_below_a_server_on_another_host(postgres_url: str, tmp_path: Path,
                                                            state: Path, saved: Path) -> None:
    with closing(Store(postgres_url)) as server, server.read() as conn:
        conn.execute(sa.select(1))
        with pytest.raises(Refused) as caught:
            care.restore(tmp_path / "new", postgres_url, saved, PASS, True)
    assert caught.value.code == "restore.in-use"


def test_the_move_to_postgresql_takes_all_along(tmp_path: Path, postgres_url: str) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    with rig(state) as made:
        made.platforms()
        rule = made.rule()
        made.run(rule)
        last = made.services.platforms.check(ADMIN, "src")
        made.ended(last)
        token = made.services.users.local_token()
        with made.services.context.change() as change:      # numbers of pruned rows count
            for table, column in ((schema.task_step, "task"), (schema.log, "task"),
                                  (schema.task, "id")):
                change.conn.execute(sa.delete(table).where(table.c[column] == last))
    before = content(state, None)
    done = care.migrate(state, None, postgres_url)
    after = content(state, postgres_url)
    assert rows_of(after, "audit").pop()[3] == "admin.migrate"
    for table in schema.metadata.tables:
        if table != "audit":
            assert rows_of(after, table) == rows_of(before, table), table
    assert done.rows["token"] == 1
    assert after[-1]["numbers"]["task"] == before[-1]["numbers"]["task"] == last
    with rig(state, database=postgres_url) as made:
        assert made.services.users.actor(token).name == "local"
        assert made.services.rules.start(ADMIN, rule) == last + 1
        wait = made.ended(last + 1)
        assert wait.outcome == "ok"
    with pytest.raises(Refused) as caught:      # nobody goes on with the old one by mistake
        Services.open(state)
    assert caught.value.code == "store.moved"


def test_the_machine_of_hotspare_up_becomes_one_of_its_own(tmp_path: Path,
                                                           postgres_url: str) -> None:
    """Its rules and platforms go on with whoever is enrolled by its name."""
    state = tmp_path / "state"
    state.mkdir(0o700)
    with rig(state) as made:
        made.platforms()
        made.rule()
        with pytest.raises(Refused) as caught:
            made.services.fleet.enrol(ADMIN, "local", "00" * 32)
        assert caught.value.code == "machine.own-process"
    care.migrate(state, None, postgres_url)
    services = Services.open(state, database=postgres_url)      # hotspare server
    try:
        real = services.context.uptime
        for later in (0.0, 14.0, 28.0):
            services.context.uptime = lambda later=later: real() + later  # type: ignore[misc]
            services.machines.watch()
        [machine] = services.machines.list(ADMIN).items
        assert (machine.name, machine.live) == ("local", False)
        assert services.fleet.enrol(ADMIN, "local", "00" * 32).machine == "local"
    finally:
        services.close()


def test_a_value_that_the_new_database_does_not_take_changes_nothing(
        tmp_path: Path, postgres_url: str) -> None:
    with rig(tmp_path) as made, made.services.context.change() as change:
        change.conn.execute(sa.insert(schema.setting).values(key="x" * 80, value=1))
    with pytest.raises(Refused) as caught:
        care.migrate(tmp_path, None, postgres_url)
    assert caught.value.code == "dump.row"
    assert caught.value.fields["table"] == "setting"
    with closing(Store(postgres_url)) as store:
        assert store.empty()
    Services.open(tmp_path).close()


def test_what_an_older_version_wrote_is_brought_to_this_ones_schema(
        tmp_path: Path, postgres: Postgres) -> None:
    """Its first schema had an interval and one limit; now there are a schedule and ranges."""
    from hotspare.store.dump import load
    from hotspare.store.migrate import upgrade

    with closing(Store(sqlite_url(tmp_path / "old.db"))) as old:
        with old.write() as conn:
            upgrade(conn, "0001")
            for statement in (
                "INSERT INTO machine (name, live, max_tasks, temp_dir, version, created_at)"
                " VALUES ('local', 1, 4, '/t', '0', 1.5)",
                "INSERT INTO platform (id, name, name_key, kind, uri, options, machine, state,"
                " product, host_id, checks, places, created_at) VALUES ('p', 'p', 'p', 'libvirt',"
                " 'u', '{}', 'local', 'ok', '', 'h', '[]', '[]', 1.5)",
                "INSERT INTO rule (id, name, name_key, source, vm, vm_name, target, storage,"
                " replica_name, networks, machine, retention, quiesce, bandwidth, interval_s,"
                " enabled, epoch, state, own_state, created_at, created_by) VALUES ('r', 'r', 'r',"
                " 'p', 'v', 'v', 'p', 's', 'v', '{}', 'local', 7, 'try', 1000, 900, 1, 1, 'idle',"
                " 'idle', 1.5, 'a')"):
                conn.exec_driver_sql(statement)
        for url in (sqlite_url(tmp_path / "new.db"), postgres.create()):
            with closing(Store(url)) as new:
                with old.read() as source, new.write() as conn:
                    load(conn, dump(source))
                with new.read() as conn:
                    rule = conn.execute(sa.select(schema.rule)).one()
                assert rule.schedule == {"kind": "interval", "every_s": 900}
                assert rule.bandwidth[0]["limit"] == 1000


def test_a_newer_versions_database_is_not_backed_up_in_part(state: Path, tmp_path: Path,
                                                            database: str | None) -> None:
    """What it keeps in tables that are not known here would be missing, and nobody would know."""
    def become(version: str) -> str:
        with closing(open_store(state, database)) as store, store.write() as conn:
            before = conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
            conn.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": version})
            return str(before)

    before = become("9999")
    try:
        with pytest.raises(Refused) as caught:
            care.backup(state, database, tmp_path / "b", PASS)
        assert caught.value.code == "store.newer"
        assert [p.name for p in tmp_path.iterdir()] == ["state"]
    finally:
        become(before)


def test_a_newer_versions_backup_is_refused(state: Path, tmp_path: Path, database: str | None,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.store import dump as module

    with monkeypatch.context() as newer:
        newer.setattr(module, "revision", lambda _: "9999")
        newer.setattr(module, "is_known", lambda _: True)
        care.backup(state, database, tmp_path / "b", PASS)
    before = content(state, database)
    for folder, url, force in ((state, database, True), (tmp_path / "new", None, False)):
        with pytest.raises(Refused) as caught:
            care.restore(folder, url, tmp_path / "b", PASS, force)
        assert caught.value.code == "store.newer"
    assert content(state, database) == before
    Services.open(state, database=database).close()


def test_a_backup_of_a_database_that_was_left_brings_it_back(tmp_path: Path,
                                                             postgres_url: str) -> None:
    """As store.moved says: to come back, restore a backup."""
    state = tmp_path / "state"
    state.mkdir(0o700)
    with rig(state) as made:
        made.platforms()
    care.migrate(state, None, postgres_url)
    care.backup(state, None, tmp_path / "b", PASS)
    care.restore(state, None, tmp_path / "b", PASS, True)
    Services.open(state).close()


@pytest.mark.parametrize("where", ["none/b", "b/b", "folder"])
def test_a_file_that_cannot_be_written_is_named(state: Path, tmp_path: Path, where: str,
                                                database: str | None) -> None:
    (tmp_path / "b").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(HotspareError) as caught:
        care.backup(state, database, tmp_path / where, PASS, True)
    assert caught.value.code == "backup.file"
    assert caught.value.fields["path"] == str(tmp_path / where)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "folder", "state"]


def hotspare(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hotspare.cli.main", *args], text=True,
                          capture_output=True, env=os.environ | environment, check=False)


def test_the_commands(tmp_path: Path, postgres_url: str) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    with rig(state) as made:
        made.platforms()
    where = ("--state-dir", str(state))
    made_ = hotspare("admin", "backup", str(tmp_path / "b"), *where, "--json",
                     HOTSPARE_BACKUP_PASSPHRASE=PASS)
    assert made_.returncode == 0, made_.stderr
    assert '"platform": 2' in made_.stdout
    (tmp_path / "pass").write_text(PASS + "\n")
    (tmp_path / "url").write_text(postgres_url + "\n")
    back = hotspare("admin", "restore", str(tmp_path / "b"), "--state-dir", str(tmp_path / "new"),
                    "--database-file", str(tmp_path / "url"),
                    "--passphrase-file", str(tmp_path / "pass"))
    assert back.returncode == 0, back.stderr
    assert "sign in anew" in back.stdout
    moved = hotspare("admin", "migrate", "--to", "postgresql://u:secret@h/d", *where)
    assert moved.returncode == 2
    assert "command line" in moved.stderr and "secret@" not in moved.stderr
    moved = hotspare("admin", "migrate", "--to", postgres_url, *where)
    assert moved.returncode == 4 and "--force" in moved.stderr
    moved = hotspare("admin", "migrate", "--to", postgres_url, "--force", *where)
    assert moved.returncode == 0, moved.stderr


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A guess may be cheap here: half a second each is most of what these tests would take."""
    from hotspare.server import sealed

    monkeypatch.setitem(sealed._COSTS, "n", 1 << 10)
    yield
