"""Copies between real servers: what arrives, what is journaled, what is not touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import copy_disk, copy_disks
from hotspare.dataplane.journal import Journal
from hotspare.dataplane.layers import folded
from hotspare.dataplane.tables import DiskPasses, build_table
from hotspare.domain.extents import BLOCK, Extent

from .jobs import MIB, areas, held, make_job, make_plan, model_digests, noise, sparse_file
from .nbdservers import Servers, content, create_qcow2


def test_full_copy_to_an_empty_overlay(servers: Servers, tmp_path: Path) -> None:
    size = 64 * MIB
    raw = sparse_file(tmp_path / "src", size, {
        0: noise(3 * MIB), 10 * MIB + 4096: noise(100_000, 1), 40 * MIB: bytes(2 * MIB),
        63 * MIB: noise(MIB, 2)})
    target = create_qcow2(tmp_path / "dst", size)
    source = servers.qemu(raw, read_only=True)
    sink = servers.qemu(target, "qcow2")
    plan = make_plan(tmp_path, source.export, size)
    assert plan.totals.zero == 0
    assert plan.totals.data < 8 * MIB
    job = make_job(plan, source.export, sink.export)
    result = copy_disk(job, Control())
    assert result.bytes_read == plan.totals.data
    # the blocks that are zero were read, but not sent
    assert result.bytes_written <= plan.totals.data - 2 * MIB + BLOCK
    sink.stop()
    data = raw.read_bytes()
    assert content(target, "qcow2", size, tmp_path / "out") == data
    with build_table(tmp_path / "table", {"vda": DiskPasses(size, [(plan, job.journal)])}) as t, \
            folded(tmp_path, size, "vda", [t]) as layers:
        assert held(layers) == model_digests(data)
    again = copy_disk(make_job(plan, source.export, sink.export), Control())
    assert again.bytes_read == 0


def test_zero_hides_old_data_of_the_backing_file(servers: Servers, tmp_path: Path) -> None:
    """The TRIM trap: a hole in an overlay shows what lies below."""
    size = 16 * MIB
    old = create_qcow2(tmp_path / "old", size)
    server = servers.qemu(old, "qcow2")
    full = sparse_file(tmp_path / "full", size, {0: noise(size)})
    first = servers.qemu(full, read_only=True)
    copy_disk(make_job(make_plan(tmp_path, first.export, size), first.export, server.export),
              Control())
    server.stop()
    raw = sparse_file(tmp_path / "src", size, {0: noise(MIB, 5), 9 * MIB: bytes(MIB)})
    overlay = create_qcow2(tmp_path / "new", size, old)
    source = servers.qemu(raw, read_only=True)
    sink = servers.qemu(overlay, "qcow2", options=("--discard=unmap",))
    plan = make_plan(tmp_path, source.export, size, instant="i2", fresh=False, target_zero=False,
                     changes=areas((0, 4 * MIB), (8 * MIB, 3 * MIB + 100)))
    result = copy_disk(make_job(plan, source.export, sink.export), Control())
    assert result.zero_bytes >= 5 * MIB
    sink.stop()
    want = bytearray(full.read_bytes())
    new = raw.read_bytes()
    for low, high in ((0, 4 * MIB), (8 * MIB, 11 * MIB + BLOCK)):
        want[low:high] = new[low:high]
    assert content(overlay, "qcow2", size, tmp_path / "out") == want


@pytest.mark.parametrize("size", [1, 511, BLOCK - 1, BLOCK + 1, 3 * MIB + 513, 5 * MIB - 1])
def test_odd_sizes(servers: Servers, tmp_path: Path, size: int) -> None:
    data = noise(size)
    raw = tmp_path / "src"
    raw.write_bytes(data)
    out = sparse_file(tmp_path / "dst", size, {0: noise(size, 9)})
    source = servers.nbdkit("-r", "file", str(raw))
    sink = servers.nbdkit("file", str(out))
    plan = make_plan(tmp_path, source.export, size, target_zero=False)
    job = make_job(plan, source.export, sink.export)
    copy_disk(job, Control())
    assert out.read_bytes() == data
    assert list(job.journal.completed()) == [Extent(0, size)]
    with build_table(tmp_path / "t", {"vda": DiskPasses(size, [(plan, job.journal)])}) as table, \
            folded(tmp_path, size, "vda", [table]) as layers:
        assert held(layers) == model_digests(data)


def test_three_disks(servers: Servers, tmp_path: Path) -> None:
    jobs, outs = [], []
    for n, size in enumerate((7 * MIB, 3 * MIB + 512, 12 * MIB)):
        raw = sparse_file(tmp_path / f"s{n}", size, {n * MIB: noise(2 * MIB, n)})
        out = sparse_file(tmp_path / f"d{n}", size, {0: noise(size, 77)})
        source = servers.nbdkit("-r", "file", str(raw))
        sink = servers.nbdkit("file", str(out))
        plan = make_plan(tmp_path, source.export, size, disk=f"vd{n}", target_zero=False)
        jobs.append(make_job(plan, source.export, sink.export, transfer_buffer=MIB))
        outs.append((raw, out))
    seen = []
    result = copy_disks(jobs, Control(progress=seen.append))
    assert all(raw.read_bytes() == out.read_bytes() for raw, out in outs)
    total = sum(j.plan.totals.data for j in jobs)
    assert (seen[-1].done, seen[-1].total) == (total, total)
    assert set(seen[-1].disks) == {"vd0", "vd1", "vd2"}
    assert result.bytes_read == total
    with build_table(tmp_path / "t", {
            j.plan.id.disk: DiskPasses(j.plan.id.size, [(j.plan, j.journal)])
            for j in jobs}) as table:
        assert set(table.disks) == {"vd0", "vd1", "vd2"}
        for job, (raw, _) in zip(jobs, outs, strict=True):
            with folded(tmp_path, job.plan.id.size, job.plan.id.disk, [table]) as layers:
                assert held(layers) == model_digests(raw.read_bytes())


def test_a_target_without_write_zeroes(servers: Servers, tmp_path: Path) -> None:
    size = 6 * MIB
    raw = sparse_file(tmp_path / "src", size, {MIB: noise(MIB)})
    out = sparse_file(tmp_path / "dst", size, {0: noise(size, 3)})
    source = servers.nbdkit("-r", "file", str(raw))
    sink = servers.nbdkit("--filter=nozero", "file", str(out), "zeromode=none")
    copy_disk(make_job(make_plan(tmp_path, source.export, size, target_zero=False),
                       source.export, sink.export), Control())
    assert out.read_bytes() == raw.read_bytes()


def test_a_journal_of_another_pass_is_refused(servers: Servers, tmp_path: Path) -> None:
    from hotspare.domain.errors import GiveUp

    raw = sparse_file(tmp_path / "src", MIB, {0: noise(MIB)})
    source = servers.nbdkit("-r", "file", str(raw))
    plan = make_plan(tmp_path, source.export, MIB)
    job = make_job(plan, source.export, source.export)
    other = make_plan(tmp_path, source.export, MIB, instant="i2")
    with pytest.raises(GiveUp) as caught:
        Journal(job.journal.path, other.id)
    assert caught.value.code == "journal.other-pass"
