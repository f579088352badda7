"""The database: its schema, its durability settings, its transactions."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from hotspare.domain.errors import GiveUp, HotspareError, Refused, Retry
from hotspare.store import Store, engine, schema
from hotspare.store.engine import open_store, sqlite_url


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(sqlite_url(tmp_path / "a.db"))
    made.migrate()
    return made


def test_migrations_make_the_schema(store: Store) -> None:
    store.migrate()                     # again: nothing to do
    with store.engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        made = {n: s for n, s in conn.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE name LIKE 'uq_%' OR name='task'")}
    assert "AUTOINCREMENT" in made["task"]
    for name in ("uq_task_live_rule", "uq_rule_source_vm", "uq_rule_name_key"):
        assert " WHERE " in made[name], "the partial index lost its condition"


def test_the_schema_is_portable() -> None:
    dialect = postgresql.dialect()
    for table in schema.metadata.sorted_tables:
        str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            text = str(CreateIndex(index).compile(dialect=dialect))
            assert ("WHERE" in text) == bool(index.dialect_options["sqlite"]["where"] is not None)


def test_a_newer_database_is_refused(store: Store) -> None:
    with store.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num='9999'")
    with pytest.raises(Refused) as caught:
        store.migrate()
    assert caught.value.code == "store.newer"


def test_sqlite_is_set_for_durability(store: Store) -> None:
    with store.read() as conn:
        def pragma(name: str) -> object:
            return conn.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2       # FULL
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == 30_000


def test_a_write_holds_the_lock_from_its_begin(store: Store) -> None:
    """Read, think, write: with 16 threads no increment is lost and none fails."""
    t = schema.setting
    with store.write() as conn:
        conn.execute(sa.insert(t).values(key="n", value=0))

    def add() -> None:
        for _ in range(20):
            with store.write() as conn:
                value = conn.execute(sa.select(t.c.value)).scalar_one()
                conn.execute(sa.update(t).values(value=value + 1))

    threads = [threading.Thread(target=add) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as conn:
        assert conn.execute(sa.select(t.c.value)).scalar() == 320


def test_other_processes_are_waited_for(store: Store) -> None:
    """A second Store stands for another process: its lock is SQLite's, not ours."""
    other = Store(str(store.engine.url))
    entered = threading.Event()

    def hold() -> None:
        with other.write() as conn:
            entered.set()
            conn.execute(sa.insert(schema.setting).values(key="a", value=1))
            threading.Event().wait(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with store.write() as conn:
        assert conn.execute(sa.select(schema.setting.c.key)).scalar() == "a"
    thread.join()


def test_a_write_inside_a_write_is_an_error_not_a_deadlock(store: Store) -> None:
    with store.write(), pytest.raises(RuntimeError), store.write():
        pass


def test_errors_do_not_carry_values(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError) as caught, store.write() as conn:
        conn.execute(sa.insert(schema.token).values(digest="canary", user="nobody",
                                                    created_at=0.0))
    assert "canary" not in str(caught.value)


def test_a_full_disk_is_told_as_one_and_nothing_is_lost(store: Store) -> None:
    t = schema.setting
    with store.write() as conn:
        conn.execute(sa.insert(t).values(key="kept", value=1))
        pages = int(conn.exec_driver_sql("PRAGMA page_count").scalar_one())
    with pytest.raises(Retry) as caught, store.write() as conn:
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}")      # as a full file system
        conn.execute(sa.insert(t).values(key="lost", value="x" * 100_000))
    assert caught.value.code == "store.full"
    store.engine.dispose()              # there is space again
    with store.write() as conn:
        assert conn.execute(sa.select(t.c.key)).scalars().all() == ["kept"]
        conn.execute(sa.insert(t).values(key="later", value="x" * 100_000))


def test_a_lock_that_another_process_keeps_is_told(store: Store,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT_MS", 100)
    impatient = Store(str(store.engine.url))
    with store.write(), pytest.raises(Retry, match="locked") as caught, impatient.write():
        raise AssertionError("two writers")
    assert caught.value.code == "store.trouble"
    with impatient.write() as conn:
        conn.execute(sa.select(schema.setting))
    impatient.close()


def test_connections_that_are_all_in_use_are_told(store: Store) -> None:
    from contextlib import ExitStack

    store.engine.pool._timeout = 0.2  # type: ignore[attr-defined]
    with ExitStack() as taken, pytest.raises(Retry) as caught:
        for _ in range(100):
            taken.enter_context(store.read())
    assert caught.value.code == "store.busy"
    with store.read() as conn:
        conn.execute(sa.select(schema.setting))


def test_only_its_user_reads_the_files(tmp_path: Path) -> None:
    import os

    before = os.umask(0)
    try:
        for url in (None, sqlite_url(tmp_path / "elsewhere.db")):
            store = open_store(tmp_path, url)
            store.migrate()
            with store.read() as conn:
                conn.execute(sa.select(schema.setting))
                modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
                assert set(modes.values()) == {0o600}, modes
                assert any(name.endswith("-wal") for name in modes)
            store.close()
    finally:
        os.umask(before)


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(GiveUp) as caught:
        open_store(tmp_path / "none")
    assert caught.value.code == "store.file"
    assert isinstance(caught.value, HotspareError)
