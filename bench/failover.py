"""Failover to the newest of 30 points: from the command to a running machine.

The machine runs when libvirt on the target's host says so; it is asked over a connection of this
bench's own. Each failover is undone and the next one starts from the same state.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import libvirt

from . import common, lab

if TYPE_CHECKING:
    from e2e.rig import Rig
    from hotspare.client.client import Client

_POLL_S = 0.01
_LIMIT_S = 60.0


def failover(rig: Rig, client: Client, conn: Any) -> tuple[float, float]:
    """One failover and its undo. Seconds until it runs, and until the undo has ended."""
    began = time.perf_counter()
    task = client.failover(rig.rule, None)
    while not runs(conn, rig.guest.name):
        if time.perf_counter() - began > _LIMIT_S:
            raise RuntimeError(f"the replica does not run: {client.task(task)['error']}")
        time.sleep(_POLL_S)
    seconds = time.perf_counter() - began
    lab.ended(client, task)
    again = time.perf_counter()
    lab.ended(client, client.undo(rig.rule))
    return seconds, time.perf_counter() - again


def runs(conn: Any, name: str) -> bool:
    """Whether the replica executes: not merely defined or paused."""
    try:
        return bool(conn.lookupByName(name).state()[0] == libvirt.VIR_DOMAIN_RUNNING)
    except libvirt.libvirtError:
        return False        # not there yet


def main() -> int:
    options = common.arguments(pairs=7, points=30)
    with lab.protected(disk_gib=1, retention=options.points) as rig, \
            rig.server.client() as client:
        while len(client.points(rig.rule)) < options.points:
            lab.change(rig.guest)
            lab.replicate(client, rig.rule)
        conn = rig.lab.b.connect()
        try:
            failover(rig, client, conn)     # to warm the caches
            found = [failover(rig, client, conn) for _ in range(options.pairs)]
        finally:
            conn.close()
    times, undone = zip(*found, strict=True)
    print(f"  {options.points} points, {len(times)} failovers, longest {max(times):.2f} s")
    common.report("failover", {"running_s": statistics.median(times),
                               "undo_s": statistics.median(undone)}, {},
                  {"running_s": "wanted <= 1.0"})
    return 0


if __name__ == "__main__":
    sys.exit(lab.run_bench(main))
