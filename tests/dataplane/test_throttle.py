"""Limits of bandwidth: exact, changed at runtime, paused."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import copy_disk
from hotspare.dataplane.throttle import RateMeter, Throttle, admit
from hotspare.platforms.port import NbdEndpoint

from .jobs import MIB, make_job, make_plan, noise, sparse_file
from .nbdservers import Fixed, Servers


@given(limit=st.integers(1, 1 << 30), sizes=st.lists(st.integers(1, 1 << 21), min_size=20,
                                                     max_size=60))
def test_the_mean_is_the_limit(limit: int, sizes: list[int]) -> None:
    now = [0.0]
    bucket = Throttle(limit, clock=lambda: now[0])
    for size in sizes:
        while (wait := admit([bucket], size)) > 0:
            now[0] += wait
    # the last one may still be in debt, and a quarter of a second may be saved up
    assert sum(sizes[:-1]) <= limit * (now[0] + 0.25) * 1.0001 + 1
    assert sum(sizes) >= limit * now[0] * 0.9999 - 1


def test_the_lower_limit_wins_and_nothing_is_charged_on_a_wait() -> None:
    now = [0.0]
    low, high = Throttle(100, clock=lambda: now[0]), Throttle(10_000, clock=lambda: now[0])
    assert admit([low, high], 200) == 0
    assert admit([low, high], 200) == pytest.approx(2.0)
    now[0] = 2.0
    assert admit([low, high], 1) == 0


def test_an_old_debt_does_not_outlive_a_change() -> None:
    now = [0.0]
    bucket = Throttle(1_000_000, clock=lambda: now[0])
    assert admit([bucket], 1_000_000) == 0
    bucket.set_limit(1000)
    assert admit([bucket], 1) <= 1.0
    bucket.set_limit(None)
    assert admit([bucket], 10 ** 9) == 0


def test_rate_meter() -> None:
    now = [0.0]
    meter = RateMeter(clock=lambda: now[0])
    for _ in range(100):
        now[0] += 0.2
        meter.add(200)
    assert meter.rate() == pytest.approx(1000, rel=0.05)
    now[0] += 11
    assert meter.rate() == 0


def test_ten_mebibytes_a_second(servers: Servers, tmp_path: Path) -> None:
    """Never more than the limit; less only while something else keeps the machine from working,
    which must not be so three times."""
    size = 40 * MIB
    raw = sparse_file(tmp_path / "src", size, {0: noise(size)})
    source = servers.nbdkit("-r", "file", str(raw))
    sink = servers.nbdkit("memory", "40M")
    rates: list[float] = []
    while len(rates) < 3 and (not rates or rates[-1] < 9.5 * MIB):
        job = make_job(make_plan(tmp_path, source.export, size), source.export, sink.export,
                       throttles=[Throttle(10 * MIB), Throttle(None)])
        result = copy_disk(job, Control())
        rates.append(result.bytes_read / result.seconds)
        assert rates[-1] <= 10.5 * MIB, rates
    assert rates[-1] >= 9.5 * MIB, rates


def test_pause_and_change_at_runtime(servers: Servers, tmp_path: Path) -> None:
    size = 32 * MIB
    raw = sparse_file(tmp_path / "src", size, {0: noise(size)})
    source = servers.nbdkit("-r", "file", str(raw))
    out = sparse_file(tmp_path / "dst", size, {})
    sink = servers.nbdkit("file", str(out))
    throttle = Throttle(4 * MIB)

    class Restarting(Fixed):
        @contextmanager
        def open(self) -> Iterator[NbdEndpoint]:
            sink.restart_if_dead()
            with super().open() as endpoint:
                yield endpoint

    job = make_job(make_plan(tmp_path, source.export, size), source.export,
                   Restarting(sink.socket), throttles=[throttle])
    seen: list[tuple[float, int]] = []
    control = Control(progress=lambda p: seen.append((time.monotonic(), p.done)))

    def change() -> None:
        time.sleep(1.0)
        throttle.set_limit(0)
        time.sleep(2.0)
        # also a server that goes away meanwhile is no error
        sink.send(signal.SIGKILL)
        time.sleep(0.3)
        throttle.set_limit(None)
        seen.append((time.monotonic(), -1))

    thread = threading.Thread(target=change)
    thread.start()
    copy_disk(job, control)
    thread.join()
    resumed = next(t for t, done in seen if done == -1)
    still = {done for t, done in seen if resumed - 1.0 < t < resumed and done >= 0}
    assert len(still) == 1, "nothing moves while paused"
    assert seen[-1][0] - resumed < 5
    assert out.read_bytes() == raw.read_bytes()
