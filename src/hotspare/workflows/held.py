"""What published points hold, by digest: their tables, brought from the target to a folder here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..dataplane.layers import Layers, folded
from ..dataplane.tables import DigestTable, table_of
from ..domain.lineage import Manifest
from .bench import Bench
from .failover import replica_of


@contextmanager
def table(bench: Bench, folder: Path, blob: str) -> Iterator[DigestTable]:
    """A digest table of the target, kept in the folder for the next one who asks."""
    path = folder / f"{blob}.i0.table"
    opened = DigestTable(path) if path.exists() else table_of(
        path, bench.target.target(bench.key).read_blob(replica_of(bench), blob))
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def layers(bench: Bench, folder: Path, manifest: Manifest | None, disk: str,
           size: int) -> Iterator[Layers]:
    """What the disk holds at a published point, by digest; nothing when there is none."""
    # A point's own tables name only what it changed: those of all older points lie below them.
    points = () if manifest is None else tuple(
        p for p in bench.target.target(bench.key).lineage(replica_of(bench)).points
        if p.number <= manifest.number)
    with ExitStack() as stack:
        tables = [stack.enter_context(table(bench, folder, blob.name))
                  for point in points for blob in point.digests]
        with folded(folder, size, disk, tables) as opened:
            yield opened
