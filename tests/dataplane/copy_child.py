"""A transfer in a process of its own, to be killed: argv is one JSON object."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import nullcontext
from pathlib import Path

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import CopyJob, copy_disk
from hotspare.dataplane.journal import Journal
from hotspare.dataplane.plan import Plan
from hotspare.platforms.port import NbdEndpoint


class Fixed:
    def __init__(self, uri: str) -> None:
        self.uri = uri

    def open(self):
        return nullcontext(NbdEndpoint(self.uri))


def main() -> None:
    job = json.loads(sys.argv[1])
    plan = Plan(Path(job["plan"]))
    with Journal(Path(job["journal"]), plan.id) as journal:
        result = copy_disk(CopyJob(Fixed(job["source"]), Fixed(job["target"]), plan, journal,
                                   bytes.fromhex(job["key"])), Control())
    with Path("/proc/self/status").open() as status:
        rss = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({**dataclasses.asdict(result), "peak_kib": rss}))


if __name__ == "__main__":
    main()
