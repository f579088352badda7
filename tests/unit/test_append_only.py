"""The log of a rule and the audit are only ever added to: the database itself refuses else."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from hotspare.services import Services
from hotspare.store import Store, schema
from hotspare.store.dump import dump, load
from unit.service_rig import ADMIN


@pytest.mark.parametrize("table", ["log", "audit"])
def test_a_line_that_was_written_cannot_be_changed(tmp_path: Path, database: str | None,
                                                   table: str) -> None:
    services = Services.open(tmp_path, database=database)
    try:
        with services.context.change() as change:
            change.log("info", "task.ended", {"outcome": "failed"})
            change.audit(ADMIN, "rule.delete", "web")
        rows = sa.select(schema.metadata.tables[table])
        with services.context.read() as conn:
            before = conn.execute(rows).all()
        assert before
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), \
                services.context.change() as change:
            change.conn.execute(sa.update(schema.metadata.tables[table]).values(at=1.0))
        with services.context.read() as conn:
            assert conn.execute(rows).all() == before
        with services.context.change() as change:       # pruning may, when its time is over
            assert change.conn.execute(
                sa.delete(schema.metadata.tables[table])).rowcount == len(before)
    finally:
        services.stop()
        services.close()


def test_a_dump_with_lines_is_loaded_all_the_same(tmp_path: Path, database: str | None) -> None:
    services = Services.open(tmp_path, database=database)
    with services.context.change() as change:
        change.log("info", "task.ended", {"outcome": "ok"})
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    try:
        with services.context.read() as conn, other.write() as into:
            assert load(into, dump(conn))["log"] == 1
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), other.write() as into:
            into.execute(sa.update(schema.log).values(level="error"))
    finally:
        other.close()
        services.stop()
        services.close()
