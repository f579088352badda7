"""How long a running guest's file systems stand still for a restore point.

Measured by whoever freezes, from just before the guest's agent is asked to freeze until it has
answered that all is thawed: a little more than what the guest itself sees. The guest writes and
fsyncs all the time.
"""

from __future__ import annotations

import math
import statistics
import sys

from . import common, lab

_RATE = 20.0


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def main() -> int:
    options = common.arguments(pairs=0, points=30)
    with lab.protected(disk_gib=1, rate=_RATE) as rig, rig.server.client() as client:
        stalls = []
        for _ in range(options.points):
            task, _seconds = lab.replicate(client, rig.rule)
            stalls.append(float(task["figures"]["stall_ms"]))
            opened = next(s for s in task["steps"] if s["name"] == "query-changes")
            if opened["detail"]["consistency"] != "quiesced":
                raise RuntimeError(f"a point is not quiesced: {opened['detail']}")
        verified = rig.guest.journal_count()
    print(f"  {len(stalls)} points, {verified} records written by the guest meanwhile; "
          f"shortest {min(stalls):.0f} ms, longest {max(stalls):.0f} ms")
    common.report("stall", {"stall_ms": statistics.median(stalls),
                            "stall_p95_ms": percentile(stalls, 0.95)}, {},
                  {"stall_ms": "wanted <= 130", "stall_p95_ms": "wanted <= 250"})
    return 0


if __name__ == "__main__":
    sys.exit(lab.run_bench(main))
