"""``transfer_buffer`` as the servers see it: bytes that are asked for and not answered yet, at the
source and at the target together, by nbdkit's logs."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import copy_disk
from hotspare.dataplane.journal import Journal
from hotspare.dataplane.layers import folded
from hotspare.dataplane.tables import DigestTable, DiskPasses, build_table
from hotspare.dataplane.throttle import Throttle
from hotspare.dataplane.verify import verify_disk

from .jobs import KEY, MIB, make_job, make_plan, noise, sparse_file
from .nbdservers import Servers

_BEGUN = re.compile(r"^(\S+ \S+) (connection=\d+) (Read|Write) (id=\d+) .*count=(0x[0-9a-f]+)")
_ENDED = re.compile(r"^(\S+ \S+) (connection=\d+) \.\.\.(Read|Write) (id=\d+) return=0")


def most_in_flight(*logs: Path) -> int:
    """The largest sum of bytes of all requests that were open at one time."""
    events: list[tuple[datetime, int]] = []
    for log in logs:
        open_: dict[tuple[str, ...], int] = {}
        for line in log.read_text().splitlines():
            if begun := _BEGUN.match(line):
                at, *key, count = begun.groups()
                open_[tuple(key)] = int(count, 16)
                events.append((datetime.fromisoformat(at), int(count, 16)))
            elif ended := _ENDED.match(line):
                at, *key = ended.groups()
                events.append((datetime.fromisoformat(at), -open_.pop(tuple(key))))
        assert not open_, "all were answered"
    most = now = 0
    for _, change in sorted(events):        # of one instant, ends first
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("buffer", [64 * 1024, MIB, 4 * MIB, 16 * MIB])
def test_one_task_has_its_buffer_in_flight_and_no_more(servers: Servers, tmp_path: Path,
                                                       buffer: int) -> None:
    size = max(16, 4 * buffer // MIB) * MIB if buffer >= MIB else 4 * MIB
    logs = tmp_path / "source.log", tmp_path / "sink.log"
    source = servers.nbdkit("-r", "-t", "32", "--filter=log", "--filter=delay", "pattern",
                            str(size), "rdelay=30ms", f"logfile={logs[0]}")
    sink = servers.nbdkit("-t", "32", "--filter=log", "--filter=delay", "null", str(size),
                          "wdelay=30ms", f"logfile={logs[1]}")
    plan = make_plan(tmp_path, source.export, size)
    result = copy_disk(make_job(plan, source.export, sink.export, transfer_buffer=buffer),
                       Control())
    assert result.bytes_written == size
    servers.stop()                          # the logs are whole
    most = most_in_flight(*logs)
    assert buffer / 2 <= most <= buffer


def test_zeroes_for_a_target_that_only_takes_data_count_too(servers: Servers,
                                                            tmp_path: Path) -> None:
    """Eight areas of zeroes at once would be half a gibibyte."""
    size, buffer = 96 * MIB, MIB
    raw = sparse_file(tmp_path / "src", size, {0: noise(MIB), size - MIB: noise(MIB)})
    log = tmp_path / "sink.log"
    source = servers.nbdkit("-r", "file", str(raw))
    sink = servers.nbdkit("-t", "32", "--filter=log", "--filter=nozero", "--filter=delay", "null",
                          str(size), "wdelay=5ms", f"logfile={log}")
    plan = make_plan(tmp_path, source.export, size, target_zero=False)
    assert plan.totals.zero == 94 * MIB
    result = copy_disk(make_job(plan, source.export, sink.export, transfer_buffer=buffer),
                       Control())
    assert result.bytes_written == size
    servers.stop()
    assert most_in_flight(log) <= buffer


def test_a_scrub_keeps_to_the_buffer_and_to_the_limits(servers: Servers, tmp_path: Path) -> None:
    size, buffer, limit = 12 * MIB, MIB, 4 * MIB
    raw, log = sparse_file(tmp_path / "src", size, {0: noise(size)}), tmp_path / "target.log"
    source = servers.nbdkit("-r", "file", str(raw))
    target = servers.nbdkit("-r", "-t", "32", "--filter=log", "--filter=delay", "file", str(raw),
                            "rdelay=20ms", f"logfile={log}")
    job = make_job(make_plan(tmp_path, source.export, size), source.export,
                   servers.nbdkit("memory", str(size)).export)
    copy_disk(job, Control())
    job.journal.close()
    table = tmp_path / "digests"
    build_table(table, {"vda": DiskPasses(size, [(job.plan, Journal.read(job.journal.path))])
                        }).close()
    throttle, began = Throttle(limit), time.monotonic()
    with DigestTable(table) as digests, folded(tmp_path, size, "vda", [digests]) as expected:
        found = verify_disk(target.export, expected, KEY, Control(), disk="vda",
                            directory=tmp_path, throttles=[throttle], transfer_buffer=buffer)
    took = time.monotonic() - began
    assert not found.mismatches and found.bytes_read == size
    assert took > 0.9 * (size - buffer) / limit - 0.25
    servers.stop()
    assert buffer / 2 <= most_in_flight(log) <= buffer
