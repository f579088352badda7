"""Permanent failover of a replica that runs: how long its guest's writes stand still at most.

The guest writes and fsyncs a block all the time and notes when each is done (/proc/uptime, in
steps of 10 ms); the longest gap is compared with that of as long a time before.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING

from . import common, lab

if TYPE_CHECKING:
    from testbeds.kvm import Guest

_BEAT = ("( while [ -e /tmp/beat ]; do dd if=/dev/zero of=/data/beat bs=4k count=1 conv=fsync "
         "2>/dev/null; cut -d' ' -f1 /proc/uptime; done > /tmp/beats ) > /dev/null 2>&1 &")


def longest_gap(guest: Guest, since: float) -> float:
    """Milliseconds between two beats that followed each other, after ``since`` (uptime)."""
    beats = [float(x) for x in guest.exec("cat /tmp/beats").out.split()]
    beats = [x for x in beats if x >= since]
    return max(b - a for a, b in itertools.pairwise(beats)) * 1000


def uptime(guest: Guest) -> float:
    return float(guest.exec("cut -d' ' -f1 /proc/uptime").out)


def main() -> int:
    options = common.arguments(pairs=1, mib=256)
    with lab.protected(disk_gib=10) as rig, rig.server.client() as client:
        lab.change(rig.guest, options.mib)
        lab.replicate(client, rig.rule)
        replica = lab.failed_over(rig, client)
        replica.exec("touch /tmp/beat; " + _BEAT)
        since = uptime(replica)
        time.sleep(10)
        before = longest_gap(replica, since)
        since = uptime(replica)
        task = lab.ended(client, client.permanent(rig.rule, None, rig.guest.name))
        time.sleep(1)
        during = longest_gap(replica, since)
        lab.print_steps([task])
        replica.remove()
    common.report("permanent", {"stall_ms": during, "stall_before_ms": before,
                                "permanent_s": task["ended_at"] - task["started_at"]}, {},
                  {"stall_before_ms": "the longest gap without it"})
    return 0


if __name__ == "__main__":
    sys.exit(lab.run_bench(main))
