"""Digests, tables and folds against a model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotspare.dataplane.blocks import block_count
from hotspare.dataplane.digests import ZERO_DIGEST, BlockHasher, digest_key
from hotspare.dataplane.journal import DATA, ZERO, Entry, Journal, compact
from hotspare.dataplane.layers import folded
from hotspare.dataplane.plan import PassId, PlanRun, write_plan
from hotspare.dataplane.tables import (
    DigestTable,
    DiskPasses,
    build_table,
    fold,
    should_fold,
    table_of,
)
from hotspare.domain.errors import GiveUp
from hotspare.domain.extents import BLOCK

from .jobs import KEY, model_digests, noise


def test_digests() -> None:
    hasher = BlockHasher(KEY)
    data = noise(BLOCK) + bytes(BLOCK) + noise(BLOCK - 1, 2) + b"\0" + b"tail"
    assert hasher.digests(data) == b"".join(model_digests(data))
    assert hasher.digests(bytes(100)) == ZERO_DIGEST
    assert hasher.digests(b"tail") == hasher.digests(b"tail".ljust(BLOCK, b"\0"))
    assert BlockHasher(digest_key(b"o" * 32)).digests(data) != hasher.digests(data)
    assert digest_key(b"o" * 32) != b"o" * 32


Layer = dict[str, tuple[int, bool, dict[int, int]]]
"""disk -> size, fresh, block -> content (0: zero)."""


def digest(content: int) -> bytes:
    return bytes([content]) * 16


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    disks = draw(st.lists(st.sampled_from(["vda", "vdb", "sdc"]), unique=True, min_size=1))
    result: Layer = {}
    for disk in disks:
        size = draw(st.integers(1, 40 * BLOCK))
        count = block_count(size)
        blocks = draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, 5), max_size=25))
        result[disk] = (size, draw(st.booleans()), blocks)
    return result


def write(directory: Path, number: int, layer: Layer) -> DigestTable:
    """A table by way of a plan and a journal, as in a transfer."""
    passes = {}
    for disk, (size, fresh, blocks) in layer.items():
        who = PassId("0123abcd", disk, f"i{number}", size)
        plan = write_plan(directory / f"{number}{disk}.plan", who,
                          [PlanRun(b, 1, not c) for b, c in sorted(blocks.items())],
                          fresh=fresh, target_zero=False)
        journal = Journal(directory / f"{number}{disk}.journal", who)
        entries = [Entry(b, 1, DATA, digest(c)) if c else Entry(b, 1, ZERO)
                   for b, c in blocks.items()]
        journal.append(compact(entries))
        journal.mark(entries)
        journal.close()
        passes[disk] = DiskPasses(size, [(plan, journal)])
    return build_table(directory / f"{number}.table", passes)


def model(stack: list[Layer], disk: str) -> dict[int, bytes]:
    size = stack[-1][disk][0]
    held: dict[int, bytes] = {}
    for layer in stack:
        if disk not in layer:
            continue
        limit, fresh, blocks = layer[disk]
        held = {} if fresh else {b: d for b, d in held.items() if b < block_count(limit)}
        held |= {b: digest(c) for b, c in blocks.items()}
    return {b: held.get(b, ZERO_DIGEST) for b in range(block_count(size))}


@settings(max_examples=60, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=4), st.integers(0, 3))
def test_folding_changes_nothing(stack: list[Layer], cut: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as temporary:
        directory = Path(temporary)
        tables = [write(directory, n, layer) for n, layer in enumerate(stack)]
        for layer, table in zip(stack, tables, strict=True):
            for disk, (_, fresh, blocks) in layer.items():
                for block in range(42):
                    want = digest(blocks[block]) if block in blocks else \
                        (ZERO_DIGEST if fresh else None)
                    assert table.lookup(disk, block) == want
        cut = min(cut, len(tables) - 1)
        # a disk that is not in a middle layer was removed: what comes later under its name is
        # a new disk, and must say so
        for disk in stack[-1]:
            seen = [disk in layer for layer in stack]
            if seen != sorted(seen):
                return
        lower = fold(directory / "lower", tables[:cut + 1])
        for disk in stack[-1]:
            want = model(stack, disk)
            size = stack[-1][disk][0]
            for some in (tables, [lower, *tables[cut + 1:]]):
                with folded(directory, size, disk, some) as view:
                    assert {b: view.lookup(b) for b in want} == want
                    assert view.digests(0, len(want)) == b"".join(want.values())
                    nonzero = {b for r in view.nonzero() for b in range(r.first,
                                                                        r.first + r.blocks)}
                    assert nonzero == {b for b, d in want.items() if d != ZERO_DIGEST}
        for table in (*tables, lower):
            table.close()


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    table = write(tmp_path, 0, {"vda": (10 * BLOCK, True, {3: 1, 4: 2})})
    whole = table.path.read_bytes()
    again = table_of(tmp_path / "again", iter([whole[:30], whole[30:]]))
    assert again.lookup("vda", 4) == digest(2)
    assert again.section("nothing") is None
    assert [tuple(e) for e in again.changed("vda")] == [(3 * BLOCK, 2 * BLOCK)]
    for damaged in (whole[:-1], whole[:-60] + b"x" + whole[-59:], b"", b"HSDIGT1\n"):
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(GiveUp) as caught:
            DigestTable(tmp_path / "bad")
        assert caught.value.code == "digests.damaged"


def test_should_fold_is_amortised() -> None:
    assert not should_fold([1000])
    assert not should_fold([1000, 200, 50])
    assert should_fold([1000, 200, 51])
    assert should_fold([0, 1])
    assert not should_fold([10 ** 6, *[1] * 31])
    assert should_fold([10 ** 6, *[1] * 32])     # many small ones are files all the same
    # many small points over a large base: what folds write stays in proportion
    base, overlays, written, own = 10_000, 0, 0, 0
    for _ in range(1000):
        overlays += 100
        own += 100
        if should_fold([base, overlays]):
            base, overlays = min(base + overlays, 20_000), 0
            written += base
    assert written <= 9 * own


def test_a_torn_journal_is_cut(tmp_path: Path) -> None:
    who = PassId("0123abcd", "vda", "i1", 100 * BLOCK)
    path = tmp_path / "j"
    with Journal(path, who) as journal:
        for n in range(5):
            entries = [Entry(n * 3, 2, DATA, digest(n) * 2), Entry(n * 3 + 2, 1, ZERO)]
            journal.append(entries, window=n)
    whole = path.read_bytes()
    with Journal(path, who) as journal:
        assert (journal.done_bytes, journal.window, journal.cut_off) == (10 * BLOCK, 4, 0)
        full = list(journal.entries())
    for length in range(len(whole) - 1, 150, -7):
        path.write_bytes(whole[:length])
        with Journal(path, who) as journal:
            left = list(journal.entries())
            assert left == full[:len(left)]
            assert len(left) % 2 == 0
            assert len(left) < 10
            journal.append([Entry(90, 1, ZERO)])
        with Journal(path, who) as journal:
            assert list(journal.entries()) == [*left, Entry(90, 1, ZERO)]
            assert journal.cut_off == 0
    # a changed byte in a record ends the journal there; one in the head refuses it
    path.write_bytes(whole[:-20] + b"!" + whole[-19:])
    assert len(list(Journal.read(path).entries())) == 8
    path.write_bytes(whole[:20] + b"!" + whole[21:])
    with pytest.raises(GiveUp) as caught:
        Journal.read(path)
    assert caught.value.code == "journal.damaged"


def test_records_of_another_journal_do_not_follow(tmp_path: Path) -> None:
    def write_journal(name: str, instant: str) -> tuple[PassId, bytes]:
        who = PassId("0123abcd", "vda", instant, 100 * BLOCK)
        with Journal(tmp_path / name, who) as journal:
            head = (tmp_path / name).stat().st_size
            journal.append([Entry(1, 1, ZERO)])
        return who, (tmp_path / name).read_bytes()[head:]

    who, _ = write_journal("a", "i1")
    _, foreign = write_journal("b", "i2")
    with (tmp_path / "a").open("ab") as file:
        file.write(foreign)
    with Journal(tmp_path / "a", who) as journal:
        assert len(list(journal.entries())) == 1
        assert journal.cut_off == len(foreign)
