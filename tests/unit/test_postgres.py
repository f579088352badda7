"""PostgreSQL below the control server: the same transactions, the same schema, and its restarts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from hotspare.domain.errors import Refused, Retry
from hotspare.store import Store, schema
from hotspare.store.engine import named, parse_url
from testbeds.postgres import Postgres

T = schema.setting


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    made = Store(postgres_url)
    yield made
    made.close()


def test_migrations_make_the_schema(postgres: Postgres) -> None:
    url = postgres.create()
    store = Store(url)
    assert store.empty()
    store.migrate()
    store.migrate()                     # again: nothing to do
    assert store.empty()
    with store.engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        made = dict(conn.exec_driver_sql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE 'uq_%%'").all())
    for name in ("uq_task_live_rule", "uq_rule_source_vm", "uq_rule_name_key"):
        assert " WHERE " in made[name], "the partial index lost its condition"
    store.close()


def test_processes_that_start_at_the_same_time_migrate_once(postgres: Postgres) -> None:
    url = postgres.create()
    failed: list[BaseException] = []

    def start() -> None:
        store = Store(url)
        try:
            store.migrate()
        except BaseException as error:
            failed.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_write_holds_the_lock_from_its_begin(store: Store, postgres_url: str) -> None:
    """Read, think, write: with threads of several processes no increment is lost, none fails."""
    with store.write() as conn:
        conn.execute(sa.insert(T).values(key="n", value=0))
    stores = [store, Store(postgres_url), Store(postgres_url)]

    def add(store: Store) -> None:
        for _ in range(10):
            with store.write() as conn:
                value = conn.execute(sa.select(T.c.value)).scalar_one()
                conn.execute(sa.update(T).values(value=value + 1))

    threads = [threading.Thread(target=add, args=(s,)) for s in stores * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as conn:
        assert conn.execute(sa.select(T.c.value)).scalar() == 120
    for other in stores[1:]:
        other.close()


def test_a_read_is_one_view_and_writes_nothing(store: Store) -> None:
    with store.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(T)).scalar() == 0
        with store.write() as writer:
            writer.execute(sa.insert(T).values(key="a", value=1))
        assert conn.execute(sa.select(sa.func.count()).select_from(T)).scalar() == 0
    with pytest.raises(sa.exc.InternalError, match="read-only"), store.read() as conn:
        conn.execute(sa.delete(T))
    with store.write() as conn:         # the connection came back as it was
        conn.execute(sa.delete(T))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_restart_breaks_what_runs_and_nothing_after_it(
        postgres: Postgres, store: Store, how: signal.Signals) -> None:
    with pytest.raises(Retry) as caught, store.write() as conn:
        conn.execute(sa.insert(T).values(key="lost", value=1))
        postgres.stop(how)
        conn.execute(sa.insert(T).values(key="lost too", value=1))
    assert caught.value.code == "store.unavailable"
    for transaction in (store.read, store.write):
        with pytest.raises(Retry), transaction() as conn:
            conn.execute(sa.select(T))
    postgres.start()
    with store.write() as conn:
        assert conn.execute(sa.select(T)).all() == []
        conn.execute(sa.insert(T).values(key="kept", value=1))
    postgres.restart(how)
    with store.read() as conn:          # the pool's connections are all dead, and nobody sees it
        assert conn.execute(sa.select(T.c.key)).scalar() == "kept"


def test_a_writer_that_hangs_does_not_stop_the_others_for_ever(
        store: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store_options(), "options", "-c lock_timeout=300")
    impatient = Store(postgres_url)
    began = time.monotonic()
    with store.write(), pytest.raises(Retry, match="lock timeout"), impatient.write():
        raise AssertionError("two writers")
    assert time.monotonic() - began < 5.0
    with impatient.write() as conn:
        conn.execute(sa.select(T))
    impatient.close()


def store_options() -> dict[str, object]:
    from hotspare.store import engine

    return engine._POSTGRESQL


def test_a_value_that_postgresql_does_not_take_is_the_callers_fault(store: Store) -> None:
    for key in ("x" * 65, "a\0b"):
        with pytest.raises(Refused) as caught, store.write() as conn:
            conn.execute(sa.insert(T).values(key=key, value=1))
        assert caught.value.code == "store.value"


def test_a_savepoint_takes_back_its_part_only(store: Store) -> None:
    with store.write() as conn:
        conn.execute(sa.insert(T).values(key="a", value=1))
        savepoint = conn.begin_nested()
        with pytest.raises(sa.exc.IntegrityError):
            conn.execute(sa.insert(T).values(key="a", value=2))
        savepoint.rollback()
        conn.execute(sa.insert(T).values(key="b", value=3))
    with store.read() as conn:
        assert conn.execute(sa.select(T.c.value).order_by(T.c.key)).scalars().all() == [1, 3]


def test_errors_do_not_carry_values(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError) as caught, store.write() as conn:
        conn.execute(sa.insert(schema.token).values(digest="canary", user="nobody",
                                                    created_at=0.0))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://u:canary@h/d", "canary", "postgresql://u:canary@h:x/d"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_url(url)
    assert "canary" not in str(caught.value)


def test_a_second_control_server_is_refused_while_the_first_lives(
        store: Store, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would show the machines that talk to the other as lost."""
    from hotspare.server import control

    monkeypatch.setattr(control, "ALONE_S", 0.5)
    with store.read() as conn:
        conn.execute(sa.select(T))
    control._check_alone(named(postgres_url, "hotspare-server"))    # who only looks is none
    first = Store(named(postgres_url, "hotspare-server"))
    with first.read() as conn:
        conn.execute(sa.select(T))
    settings = control.Settings(tmp_path / "second", "127.0.0.1:0", database=postgres_url)
    with pytest.raises(Retry) as caught:        # its pool keeps a connection
        control.run(settings)
    assert caught.value.code == "store.shared"
    assert not (tmp_path / "second" / "secret.key").exists()
    monkeypatch.setattr(control, "ALONE_S", 20.0)
    threading.Timer(0.5, first.close).start()   # it is waited for, as after a restart
    control._check_alone(named(postgres_url, "hotspare-server"))
    for url in ("sqlite:////a", "postgresql://u:p%40@h/d?host=/s"):
        assert parse_url(named(url, "x")).password == parse_url(url).password
    with pytest.raises(Refused):
        named("mysql://h/d", "x")
