"""All rows of a database as plain JSON items, and back, the same for both kinds of database:
for backups, and for the way from one database to another.

The items: ``{format, revision}``; for each table ``{table, columns}`` and its rows as lists; at
the end ``{rows, numbers}`` by table: how many rows there were, and the last number given.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError

from ..domain.errors import Refused
from . import schema
from .migrate import is_known, revision, upgrade

FORMAT: Final = 1
_BATCH: Final = 500


def dump(conn: Connection) -> Iterator[Any]:
    """Of one transaction's view. Rows are read as they are asked for. Raises Refused
    ``store.newer``: what a newer version keeps in tables that are not known would be left out."""
    found = revision(conn)
    if not is_known(found):
        raise Refused("store.newer", revision=found)
    yield {"format": FORMAT, "revision": found}
    rows: dict[str, int] = {}
    tables = _tables(conn)
    for table in tables:
        yield {"table": table.name, "columns": [c.name for c in table.columns]}
        packed = [isinstance(c.type, sa.LargeBinary) for c in table.columns]
        rows[table.name] = 0
        query = sa.select(table).order_by(*table.primary_key)
        for row in conn.execute(query, execution_options={"yield_per": _BATCH}):
            rows[table.name] += 1
            yield [base64.b64encode(value).decode() if binary and value is not None else value
                   for value, binary in zip(row, packed, strict=True)]
    yield {"rows": rows, "numbers": {t.name: _last_number(conn, t) for t in tables
                                     if _numbered(t)}}


def load(conn: Connection, items: Iterator[Any],
         without: Collection[str] = ()) -> dict[str, int]:
    """Replace all that the database has by what was dumped, with this version's schema; rows of
    the tables ``without`` are left out. Returns the number of rows by table. Raises Refused
    ``dump.format``, ``dump.incomplete``, ``dump.row``; the caller's transaction must be rolled
    back then."""
    header = next(items, None)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise Refused("dump.format")
    _drop(conn)
    upgrade(conn, str(header["revision"]))
    tables = {t.name: t for t in _tables(conn)}
    read = dict.fromkeys(tables, 0)
    table, columns, batch = None, [], []
    end: dict[str, Any] = {}
    for item in items:
        if isinstance(item, list):
            batch.append(item)
        if batch and (not isinstance(item, list) or len(batch) == _BATCH):
            assert table is not None
            read[table.name] += len(batch)
            if table.name not in without:
                _insert(conn, table, columns, batch)
            batch = []
        if isinstance(item, dict) and "table" in item:
            table, columns = tables[item["table"]], item["columns"]
        elif isinstance(item, dict):
            end = item
    kept = {name: _rows(conn, t) for name, t in tables.items()}
    if end.get("rows") != read or any(kept[n] != read[n] for n in read if n not in without):
        raise Refused("dump.incomplete")
    for name, number in end["numbers"].items():
        go_on_after(conn, tables[name], number)
    upgrade(conn)
    return kept


def go_on_after(conn: Connection, table: sa.Table, number: int) -> None:
    """The next number that ``table`` gives to a row is ``number`` + 1."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("SELECT setval(pg_get_serial_sequence(:t, :c), :n, :called)"), {
            "t": f'"{table.name}"', "c": _key(table).name, "n": max(number, 1),
            "called": number > 0})
    elif table.name in _sqlite_numbers(conn):
        conn.execute(sa.text("UPDATE sqlite_sequence SET seq = :n WHERE name = :t"),
                     {"t": table.name, "n": number})
    elif "AUTOINCREMENT" in str(conn.execute(sa.text(
            "SELECT sql FROM sqlite_master WHERE name = :t"), {"t": table.name}).scalar()).upper():
        conn.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:t, :n)"),
                     {"t": table.name, "n": number})


def _last_number(conn: Connection, table: sa.Table) -> int:
    """That was ever given, also when its row is gone. 0: none."""
    if conn.dialect.name == "postgresql":
        sequence = conn.execute(sa.text("SELECT pg_get_serial_sequence(:t, :c)"), {
            "t": f'"{table.name}"', "c": _key(table).name}).scalar_one()
        last, called = conn.exec_driver_sql(
            f"SELECT last_value, is_called FROM {sequence}").one()  # noqa: S608  (a quoted name)
        return int(last) if called else 0
    largest = int(conn.execute(sa.select(sa.func.max(_key(table)))).scalar() or 0)
    return max(largest, _sqlite_numbers(conn).get(table.name, 0))


def _sqlite_numbers(conn: Connection) -> dict[str, int]:
    return {row.name: row.seq for row in conn.execute(sa.text(
        "SELECT name, seq FROM sqlite_sequence"))}


def _numbered(table: sa.Table) -> bool:
    """Whether the database numbers the rows."""
    key = list(table.primary_key)
    return len(key) == 1 and isinstance(key[0].type, sa.Integer)


def _key(table: sa.Table) -> sa.Column[Any]:
    return next(iter(table.primary_key))


def _tables(conn: Connection) -> list[sa.Table]:
    """As they are now, whatever this version thinks: a table comes after those that it refers
    to."""
    metadata = _ours(conn)
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, sa.JSON):
                column.type.none_as_null = bool(column.nullable)
    return [t for t in metadata.sorted_tables if t.name != "alembic_version"]


def _drop(conn: Connection) -> None:
    _ours(conn).drop_all(conn)


def _ours(conn: Connection) -> sa.MetaData:
    """A database may hold other programs' tables beside ours."""
    known = {*schema.metadata.tables, "alembic_version"}
    metadata = sa.MetaData()
    metadata.reflect(conn, only=[n for n in sa.inspect(conn).get_table_names() if n in known])
    return metadata


def _insert(conn: Connection, table: sa.Table, columns: list[str], rows: list[Any]) -> None:
    packed = [isinstance(table.columns[name].type, sa.LargeBinary) for name in columns]
    try:
        conn.execute(sa.insert(table), [
            {name: base64.b64decode(value) if binary and value is not None else value
             for name, value, binary in zip(columns, row, packed, strict=True)} for row in rows])
    except (DataError, IntegrityError) as error:
        raise Refused("dump.row", table=table.name,
                      detail=str(error.orig).splitlines()[0]) from None


def _rows(conn: Connection, table: sa.Table) -> int:
    return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
