"""Limits of bandwidth as the target sees them: time and size of every write, by nbdkit's log."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import copy_disk
from hotspare.dataplane.throttle import Throttle
from hotspare.domain.bandwidth import Bandwidth, Range
from hotspare.domain.errors import Stopped

from .jobs import MIB, make_job, make_plan, noise
from .nbdservers import Servers

SIZE = 2048 * MIB
WINDOW_S = 10.0
_REQUEST = re.compile(r"^(\S+ \S+) connection=\d+ (\w+) id=\d+ offset=\S+ count=(0x[0-9a-f]+)")

Write = tuple[float, int]


def requests(log: Path, kind: str) -> list[Write]:
    """When each request of a kind came to the server, in seconds, and its bytes."""
    found = (_REQUEST.match(line) for line in log.read_text().splitlines())
    return [(datetime.fromisoformat(m[1]).replace(tzinfo=UTC).timestamp(), int(m[3], 16))
            for m in found if m and m[2] == kind]


def writes(log: Path) -> list[Write]:
    return requests(log, "Write")


def means(seen: Sequence[Write]) -> list[float]:
    """Bytes per second in every window of ten seconds, a quarter of a second apart."""
    first, last = seen[0][0], seen[-1][0]
    steps = int((last - first - WINDOW_S) / 0.25)
    assert steps > 4, "the transfer was too short"
    return [sum(size for at, size in seen if low <= at < low + WINDOW_S) / WINDOW_S
            for low in (first + 0.25 * n for n in range(steps + 1))]


class Transfers:
    """Copies from real servers to real servers, at the same time."""

    def __init__(self, servers: Servers, directory: Path) -> None:
        self._servers, self._directory = servers, directory
        self._threads: list[threading.Thread] = []
        self._faults: list[BaseException] = []
        self.logs: list[Path] = []

    def start(self, throttles: Sequence[Throttle], seconds: float,
              follow: Callable[[], object] = lambda: None, *faults: str) -> None:
        """Copy for so long; ``faults`` are those of the target, as nbdkit is told them."""
        name = f"vd{len(self.logs)}"
        log = self._directory / f"{name}.log"
        self.logs.append(log)
        source = self._servers.nbdkit("-r", "pattern", str(SIZE))
        filters = [x for x in faults if x.startswith("-")]
        sink = self._servers.nbdkit("--filter=log", *filters, "null", str(SIZE), f"logfile={log}",
                                    *(x for x in faults if not x.startswith("-")))
        job = make_job(make_plan(self._directory, source.export, SIZE, disk=name),
                       source.export, sink.export, throttles=throttles)
        end = time.monotonic() + seconds

        def stop() -> bool:
            follow()
            return time.monotonic() > end

        def run() -> None:
            try:
                copy_disk(job, Control(stop=stop))
                raise AssertionError("the disk was copied before the time was over")
            except Stopped:
                pass
            except BaseException as fault:
                self._faults.append(fault)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def seen(self) -> list[list[Write]]:
        """What each target saw, when all have ended."""
        for thread in self._threads:
            thread.join()
        assert not self._faults, self._faults
        return [writes(log) for log in self.logs]


@pytest.fixture
def transfers(servers: Servers, tmp_path: Path) -> Transfers:
    return Transfers(servers, tmp_path)


@pytest.mark.parametrize("limit", [1, 10, 50])
def test_one_transfer_keeps_its_limit(transfers: Transfers, limit: int) -> None:
    transfers.start([Throttle(limit * MIB), Throttle(None)], 12)
    (seen,) = transfers.seen()
    for mean in means(seen):
        assert mean == pytest.approx(limit * MIB, rel=0.05)


@pytest.mark.parametrize("limit", [1, 10, 50])
def test_two_transfers_share_the_machines_limit(transfers: Transfers, limit: int) -> None:
    machine = Throttle(limit * MIB)
    for _ in range(2):
        transfers.start([Throttle(None), machine], 12)
    both = transfers.seen()
    for mean in means(sorted(both[0] + both[1])):
        assert mean == pytest.approx(limit * MIB, rel=0.05)
    moved = sorted(sum(size for _, size in seen) for seen in both)
    assert moved[0] > moved[1] / 3, "neither starves"


def test_the_lower_limit_wins_beside_another_transfer(transfers: Transfers) -> None:
    machine = Throttle(20 * MIB)
    transfers.start([Throttle(4 * MIB), machine], 12)
    transfers.start([Throttle(None), machine], 12)
    low, high = transfers.seen()
    for mean in means(low):
        assert mean == pytest.approx(4 * MIB, rel=0.05)
    for mean in means(sorted(low + high)):
        assert mean == pytest.approx(20 * MIB, rel=0.05)


def test_neither_side_gets_more_when_blocks_turn_out_to_be_zero(servers: Servers,
                                                                tmp_path: Path) -> None:
    """The limit spares the way from the source, too: what is read counts, sent or not."""
    limit, size = 8 * MIB, 120 * MIB
    raw = tmp_path / "half-zero"
    with raw.open("wb") as file:
        for number in range(size // MIB):
            file.write(noise(MIB // 2, number) + bytes(MIB // 2))
    logs = tmp_path / "source.log", tmp_path / "sink.log"
    source = servers.nbdkit("-r", "--filter=log", "--filter=noextents", "file", str(raw),
                            f"logfile={logs[0]}")
    sink = servers.nbdkit("--filter=log", "null", str(size), f"logfile={logs[1]}")
    plan = make_plan(tmp_path, source.export, size)
    assert plan.totals.data == size, "nothing is known to be zero before it is read"
    result = copy_disk(make_job(plan, source.export, sink.export, throttles=[Throttle(limit)]),
                       Control())
    assert result.bytes_written == size // 2 and result.bytes_read == size
    for mean in means(requests(logs[0], "Read")):
        assert mean == pytest.approx(limit, rel=0.05)
    for mean in means(requests(logs[1], "Write")):
        assert mean == pytest.approx(limit / 2, rel=0.1)


EDGE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC).timestamp()       # a Monday


@pytest.mark.parametrize(("before", "after"), [(50, 0), (0, 10), (50, 1), (None, 0), (None, 1)])
def test_a_ranges_edge_acts_within_a_second(transfers: Transfers, before: int | None,
                                            after: int) -> None:
    week = Bandwidth("UTC", tuple(
        Range((1,), start, end, limit * MIB)
        for start, end, limit in ((0, 540, before), (540, 1440, after)) if limit is not None))
    edge = time.time() + 3.0
    throttle = Throttle(0)

    def follow() -> None:
        throttle.set_limit(week.limit_at(EDGE + time.time() - edge))

    if before is None:      # fast for a moment only: the disk is not to be at its end by then
        edge = time.time() + 0.8
    follow()
    transfers.start([throttle], edge - time.time() + 4, follow)
    (seen,) = transfers.seen()
    early = sum(size for at, size in seen if at < edge)
    late = [(at - edge, size) for at, size in seen if at >= edge + 1]
    if before == 0:
        assert early == 0
        assert min(at for at, _ in seen) < edge + 1, "it goes on within a second"
    else:
        assert early > 0
    if after == 0:
        assert not late, f"{late[:3]}: still writing a second after the edge"
    else:
        assert sum(size for _, size in late) / 3 <= after * MIB * 1.15
        assert sum(size for _, size in late) / 3 >= after * MIB * 0.6


def test_what_a_target_refused_is_not_repeated_in_a_pause(transfers: Transfers,
                                                          tmp_path: Path) -> None:
    edge, broken = time.time() + 3.0, tmp_path / "broken"
    throttle = Throttle(20 * MIB)

    def follow() -> None:
        now = time.time()
        throttle.set_limit(0 if edge <= now < edge + 4 else 20 * MIB)
        if edge - 0.15 < now < edge + 3:
            broken.touch()
        else:
            broken.unlink(missing_ok=True)

    transfers.start([throttle], 9, follow, "--filter=error", "error-pwrite=EIO",
                    "error-pwrite-rate=100%", f"error-pwrite-file={broken}")
    (seen,) = transfers.seen()
    assert [at for at, _ in seen if at < edge] and [at for at, _ in seen if at > edge + 4]
    assert not [at - edge for at, _ in seen if edge + 1 <= at < edge + 4]
