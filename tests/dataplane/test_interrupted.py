"""Faults: refused requests, broken and hanging connections, kill -9, full disks, stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import Tuning, copy_disk
from hotspare.dataplane.journal import Entry, Journal
from hotspare.dataplane.throttle import Throttle
from hotspare.domain.errors import GiveUp, InstantLost, OutOfSpace, Reconnect, Stopped

from .jobs import KEY, MIB, make_job, make_plan, noise, sparse_file
from .nbdservers import Fixed, Server, Servers


def source_of(servers: Servers, tmp_path: Path, size: int, *filters: str) -> tuple[Path, Server]:
    raw = sparse_file(tmp_path / "src", size, {0: noise(size)})
    return raw, servers.nbdkit("-r", *filters, "file", str(raw))


def test_refused_requests_are_repeated(servers: Servers, tmp_path: Path) -> None:
    raw, plain = source_of(servers, tmp_path, 24 * MIB)
    out = sparse_file(tmp_path / "dst", 24 * MIB, {})
    source = servers.nbdkit("-r", "--filter=error", "file", str(raw), "error-pread-rate=10%",
                            "error=EIO")
    sink = servers.nbdkit("--filter=error", "file", str(out), "error-pwrite-rate=10%", "error=EIO")
    job = make_job(make_plan(tmp_path, plain.export, 24 * MIB), source.export, sink.export,
                   tuning=Tuning(request_attempts=12))
    result = copy_disk(job, Control())
    assert result.retries > 0
    assert result.reconnects == 0
    assert out.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize(("error", "code", "kind"), [
    ("EIO", "target.write-failed", GiveUp), ("ENOSPC", "target.no-space", OutOfSpace)])
def test_a_target_that_refuses_for_good(servers: Servers, tmp_path: Path, error: str, code: str,
                                        kind: type[GiveUp]) -> None:
    _, source = source_of(servers, tmp_path, 2 * MIB)
    sink = servers.nbdkit("--filter=error", "memory", "2M", "error-pwrite-rate=100%",
                          f"error={error}")
    job = make_job(make_plan(tmp_path, source.export, 2 * MIB), source.export, sink.export,
                   tuning=Tuning(request_attempts=3))
    with pytest.raises(kind) as caught:
        copy_disk(job, Control())
    assert caught.value.code == code
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_killed_server_is_connected_again(servers: Servers, tmp_path: Path, side: str) -> None:
    size = 48 * MIB
    raw, source = source_of(servers, tmp_path, size)
    out = sparse_file(tmp_path / "dst", size, {})
    sink = servers.nbdkit("file", str(out))
    victim = source if side == "source" else sink
    kills = 0

    class Watched(Fixed):
        @contextmanager
        def open(self):
            victim.restart_if_dead()
            with super().open() as endpoint:
                yield endpoint

    job = make_job(make_plan(tmp_path, source.export, size), Watched(source.socket),
                   Watched(sink.socket), throttles=[Throttle(40 * MIB)])

    def healthy() -> None:
        nonlocal kills
        if kills < 1 and job.journal.done_bytes:
            kills += 1
            victim.send(signal.SIGKILL)
            victim.process.wait()

    control = Control(healthy=healthy)
    result = copy_disk(job, control)
    assert kills == 1
    assert result.reconnects >= 1
    assert out.read_bytes() == raw.read_bytes()
    assert result.bytes_written <= 1.5 * size


def test_a_server_that_is_gone_for_good(servers: Servers, tmp_path: Path) -> None:
    _, source = source_of(servers, tmp_path, MIB)
    job = make_job(make_plan(tmp_path, source.export, MIB), source.export,
                   Fixed(tmp_path / "nothing"), tuning=Tuning(reconnects=2))
    with pytest.raises(Reconnect) as caught:
        copy_disk(job, Control())
    assert caught.value.code == "target.unreachable"
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("how", ["slow", "frozen"])
def test_a_stop_takes_less_than_a_second(servers: Servers, tmp_path: Path, how: str) -> None:
    raw, plain = source_of(servers, tmp_path, 8 * MIB)
    source = servers.nbdkit("-r", "--filter=delay", "file", str(raw), "delay-read=20") \
        if how == "slow" else servers.nbdkit("-r", "file", str(raw))
    sink = servers.nbdkit("memory", "8M")
    job = make_job(make_plan(tmp_path, plain.export, 8 * MIB), source.export, sink.export,
                   throttles=[Throttle(MIB)])
    asked = threading.Event()
    times: list[float] = []

    def ask() -> None:
        if how == "frozen":
            source.send(signal.SIGSTOP)
            sink.send(signal.SIGSTOP)
            time.sleep(0.5)
        times.append(time.monotonic())
        asked.set()

    threading.Timer(1.0, ask).start()
    with pytest.raises(Stopped):
        copy_disk(job, Control(stop=asked.is_set))
    assert time.monotonic() - times[0] < 1.0


def test_a_server_that_hangs_counts_as_broken(servers: Servers, tmp_path: Path) -> None:
    size = 4 * MIB
    raw, source = source_of(servers, tmp_path, size)
    out = sparse_file(tmp_path / "dst", size, {})
    sink = servers.nbdkit("file", str(out))
    job = make_job(make_plan(tmp_path, source.export, size), source.export, sink.export,
                   tuning=Tuning(stall_s=1.0))
    sink.send(signal.SIGSTOP)
    threading.Timer(2.5, lambda: sink.send(signal.SIGCONT)).start()
    # the handshake hangs too: CONNECT_S is far longer, so it just waits there
    result = copy_disk(job, Control())
    assert out.read_bytes() == raw.read_bytes()
    assert result.bytes_read >= size


def test_an_unhealthy_instant_ends_the_transfer(servers: Servers, tmp_path: Path) -> None:
    _, source = source_of(servers, tmp_path, 8 * MIB)
    sink = servers.nbdkit("memory", "8M")
    began = time.monotonic()

    def healthy() -> None:
        if time.monotonic() - began > 0.5:
            raise InstantLost("instant.lost")

    job = make_job(make_plan(tmp_path, source.export, 8 * MIB), source.export, sink.export,
                   throttles=[Throttle(MIB)])
    with pytest.raises(InstantLost):
        copy_disk(job, Control(healthy=healthy))
    assert time.monotonic() - began < 3


POINTS = ["copy.after-write#150", "copy.before-flush#5", "copy.after-flush#6",
          "journal.before-append#4", "journal.after-append#7", "journal.after-sync#3"]


@pytest.mark.parametrize("point", POINTS)
def test_kill_and_resume(servers: Servers, tmp_path: Path, point: str) -> None:
    size = 128 * MIB
    raw = sparse_file(tmp_path / "src", size, {0: noise(size)})
    source = servers.qemu(raw, read_only=True)
    out = sparse_file(tmp_path / "dst", size, {})
    log = tmp_path / "log"
    sink = servers.nbdkit("--filter=log", "file", str(out), f"logfile={log}", "logappend=true")
    plan = make_plan(tmp_path, source.export, size)
    argument = json.dumps({
        "source": source.export.endpoint.uri, "target": sink.export.endpoint.uri,
        "plan": str(plan.path), "journal": str(tmp_path / "journal"), "key": KEY.hex()})

    def child(fault: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "dataplane.copy_child", argument],
                              cwd=Path(__file__).parents[1], text=True, capture_output=True,
                              env={**os.environ, "HOTSPARE_FAULT": fault}, check=False)

    killed = child(f"{point}:kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if point == "journal.after-append#7":
        with (tmp_path / "journal").open("ab") as torn:
            torn.write(b"a torn record")
    with Journal(tmp_path / "journal", plan.id) as journal:
        assert 0 < journal.done_bytes < size
        # what the journal says is at the target
        data, got = raw.read_bytes(), out.read_bytes()
        for offset, length in journal.completed():
            assert got[offset:offset + length] == data[offset:offset + length]
    sink.restart_if_dead()
    resumed = child("")
    assert resumed.returncode == 0, resumed.stderr
    sink.stop()
    assert out.read_bytes() == raw.read_bytes()
    written = sum(int(n, 16) for n in re.findall(r" Write id=.* count=0x([0-9a-f]+) .*\.\.\.$",
                                                 log.read_text(), re.M))
    assert size <= written <= 1.1 * size


LINE = re.compile(r"(\.\.\.)?(Write|Zero|Flush) id=(\d+)(?: offset=0x([0-9a-f]+) "
                  r"count=0x([0-9a-f]+))?.*?(?:return=(\d+))?$")


def durable_ranges(log: Path) -> list[tuple[int, int]]:
    """Ranges whose write ended before the start of a flush that ended."""
    writes: dict[str, tuple[int, int]] = {}
    ended: list[tuple[int, int]] = []
    flushes: dict[str, int] = {}
    durable = 0
    for line in log.read_text().splitlines():
        if not (found := LINE.search(line)):
            continue
        after, what, number, offset, count, status = found.groups()
        number = line.split("connection=")[1].split()[0] + "/" + number
        if what == "Flush":
            if after:
                assert status == "0"
                durable = max(durable, flushes.pop(number))
            else:
                flushes[number] = len(ended)
        elif after:
            assert status == "0"
            ended.append(writes.pop(number))
        else:
            writes[number] = (int(offset, 16), int(count, 16))
    return sorted(ended[:durable])


def test_write_then_flush_then_journal(servers: Servers, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """Each journal record names only what the target was asked to flush after it was written,
    and answered: seen in the requests that the target recorded (rule 9)."""
    size = 64 * MIB
    raw = sparse_file(tmp_path / "src", size, {n * 4 * MIB: noise(3 * MIB, n) for n in range(16)})
    source = servers.nbdkit("-r", "file", str(raw))
    log = tmp_path / "log"
    sink = servers.nbdkit("--filter=log", "memory", "64M", f"logfile={log}")
    job = make_job(make_plan(tmp_path, source.export, size, target_zero=False),
                   source.export, sink.export)
    real = Journal.append
    records = 0

    def append(self: Journal, entries: list[Entry], window: int | None = None) -> None:
        nonlocal records
        records += 1
        durable = durable_ranges(log)
        for entry in entries:
            at, end = entry.first << 16, min((entry.first + entry.blocks) << 16, size)
            for low, length in durable:
                if low <= at < low + length:
                    at = low + length
            assert at >= end, f"block {entry.first} is journaled but was not flushed"
        real(self, entries, window)

    monkeypatch.setattr(Journal, "append", append)
    copy_disk(job, Control())
    assert records >= 8
    text = log.read_text()
    assert "Trim" not in text
    assert "Zero" in text


def test_journal_records_are_synced(servers: Servers, tmp_path: Path) -> None:
    """Seen in system calls: every record is followed by its sync; a new journal and its
    directory are synced before the first record."""
    _, source = source_of(servers, tmp_path, 8 * MIB)
    sink = servers.nbdkit("memory", "8M")
    plan = make_plan(tmp_path, source.export, 8 * MIB)
    argument = json.dumps({
        "source": source.export.endpoint.uri, "target": sink.export.endpoint.uri,
        "plan": str(plan.path), "journal": str(tmp_path / "journal"), "key": KEY.hex()})
    trace = tmp_path / "trace"
    subprocess.run(["strace", "-f", "-y", "-o", str(trace), "-e",
                    "trace=write,fsync,fdatasync,rename",
                    sys.executable, "-m", "dataplane.copy_child", argument],
                   cwd=Path(__file__).parents[1], check=True, stdout=subprocess.DEVNULL)
    calls = [line for line in trace.read_text().splitlines()
             if "journal" in line or f"<{tmp_path}>" in line]
    names = [re.search(r"(write|fsync|fdatasync|rename)\(", line).group(1) for line in calls
             if re.search(r"(write|fsync|fdatasync|rename)\(", line)]
    assert names[:4] == ["write", "fsync", "rename", "fsync"], calls[:5]
    rest = names[4:]
    assert rest.count("write") >= 3
    assert rest == ["write", "fdatasync"] * (len(rest) // 2)


def test_a_full_machine_is_said(servers: Servers, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from hotspare.dataplane import journal as module

    _, source = source_of(servers, tmp_path, MIB)
    sink = servers.nbdkit("memory", "1M")
    job = make_job(make_plan(tmp_path, source.export, MIB), source.export, sink.export)

    def full(_fd: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module, "_write_all", full)
    with pytest.raises(OutOfSpace) as caught:
        copy_disk(job, Control())
    assert caught.value.code == "machine.no-space"


def test_a_new_pass_takes_over_what_was_left(servers: Servers, tmp_path: Path) -> None:
    """Rule 1: (not completed and flushed) ∪ (changed since the lost instant)."""
    from hotspare.dataplane.layers import folded
    from hotspare.dataplane.tables import DiskPasses, build_table

    from .jobs import areas, held, model_digests

    size = 32 * MIB
    raw, source = source_of(servers, tmp_path, size)
    out = sparse_file(tmp_path / "dst", size, {})
    sink = servers.nbdkit("file", str(out))
    first = make_plan(tmp_path, source.export, size)
    job = make_job(first, source.export, sink.export, throttles=[Throttle(20 * MIB)])

    def healthy() -> None:
        if job.journal.done_bytes > 6 * MIB:
            raise InstantLost("instant.lost", tracking={})

    with pytest.raises(InstantLost):
        copy_disk(job, Control(healthy=healthy))
    done = job.journal.done_bytes
    assert 0 < done < size
    with raw.open("r+b") as file:
        file.seek(100_000)
        file.write(b"changed")
        file.seek(3 * MIB)
        file.write(bytes(2 * MIB))
    second = make_plan(tmp_path, source.export, size, instant="i2", target_zero=False,
                       changes=areas((100_000, 7), (3 * MIB, 2 * MIB)),
                       previous=[(first, job.journal)])
    assert second.totals.data <= size - done + 2 * MIB + 65536
    next_job = make_job(second, source.export, sink.export)
    copy_disk(next_job, Control())
    assert out.read_bytes() == raw.read_bytes()
    passes = [(first, job.journal), (second, next_job.journal)]
    with build_table(tmp_path / "t", {"vda": DiskPasses(size, passes)}) as table, \
            folded(tmp_path, size, "vda", [table]) as layers:
        assert held(layers) == model_digests(raw.read_bytes())
    with pytest.raises(GiveUp) as caught:
        build_table(tmp_path / "t2", {"vda": DiskPasses(size, passes[:1])})
    assert caught.value.code == "journal.incomplete"


