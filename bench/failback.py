"""Failback with 64 MiB changed on a disk of 10 GiB: how long neither of the two runs, and what is
sent against what differs.

The replica writes as much before the bulk phase as between it and the switch. What differs is
counted in blocks of 64 KiB between the source's disk as it was before and the replica's as it is
while both are off.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import common, lab

if TYPE_CHECKING:
    from e2e.rig import Rig

_BLOCK = 64 * 1024


def raw(image: Path, where: Path) -> Path:
    """The disk as a sparse raw file."""
    out = where / f"{image.name}.raw"
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", str(image), str(out)],
                   check=True)
    return out


def differing(one: Path, other: Path) -> int:
    """Bytes of the blocks that differ."""
    return sum(len(a) for a, b in zip(_blocks(one), _blocks(other), strict=True) if a != b)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def replica_disk(rig: Rig) -> Path:
    [layer] = rig.storage_dir.glob(f"hs-{rig.rule_id}-*-fo-t*.qcow2")
    return layer


def main() -> int:
    options = common.arguments(pairs=1, mib=64)
    with common.scratch("/tmp") as scratch:         # noqa: S108
        gate = scratch / "gate"
        with lab.protected(disk_gib=10, fault=f"failback.rest#*:touch={gate}") as rig, \
                rig.server.client() as client:
            rig.guest.shutdown()
            before = raw(rig.guest.disk_paths[0], scratch)
            replica = lab.failed_over(rig, client)
            lab.change(replica, options.mib)
            bulk = lab.ended(client, client.fail_back(rig.rule))
            lab.change(replica, options.mib, "y")
            task = client.switch_back(rig.rule)
            while not gate.exists():
                time.sleep(0.005)
            paused = time.monotonic()
            differs = differing(before, raw(replica_disk(rig), scratch))
            paused = time.monotonic() - paused
            gate.unlink()
            switch = lab.ended(client, task)
            lab.print_steps([bulk])
            lab.print_steps([switch])
            lab.ended(client, client.commit_failback(rig.rule))
    sent = bulk["figures"]["bytes_moved"], switch["figures"]["bytes_moved"]
    print(f"  {differs >> 20} MiB differ; sent {sent[0] >> 20} MiB in bulk and "
          f"{sent[1] >> 20} MiB at the switch")
    common.report("failback", {
        "switch_stop_s": switch["figures"]["switch_stop_s"] - paused,
        "sent_over_differing": sum(sent) / differs}, {},
        {"switch_stop_s": "wanted <= 5", "sent_over_differing": "wanted <= 1.1"})
    return 0


if __name__ == "__main__":
    sys.exit(lab.run_bench(main))
