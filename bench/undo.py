"""Undo of a failover whose replica has written: from the command until replication may go on."""

from __future__ import annotations

import statistics
import sys

from . import common, lab


def main() -> int:
    options = common.arguments(pairs=5, mib=64)
    with lab.protected(disk_gib=10) as rig, rig.server.client() as client:
        times = []
        for _ in range(options.pairs):
            replica = lab.failed_over(rig, client)
            lab.change(replica, options.mib)
            times.append(common.seconds(lambda: lab.ended(client, client.undo(rig.rule))))
    print(f"  {len(times)} undone, each after {options.mib} MiB; longest {max(times):.2f} s")
    common.report("undo", {"undo_s": statistics.median(times)}, {}, {"undo_s": "wanted <= 2"})
    return 0


if __name__ == "__main__":
    sys.exit(lab.run_bench(main))
