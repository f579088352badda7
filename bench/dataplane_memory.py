"""Memory of a worker-like process with four transfers running, one of them of a 1 TiB disk.

The process loads what a DR machine loads (step runner, HTTP client, libvirt, libnbd), copies four
disks at a time, then compares the large one again by its digests. The figure is the peak of the
resident memory as the kernel counted it.
"""
# ruff: noqa: S108  (a bench works in /tmp)

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from . import common

TIB = 1 << 40
LOADED = ("dbos", "sqlalchemy", "httpx", "pydantic", "cryptography", "fastapi", "uvicorn",
          "libvirt", "hotspare.workflows.link")


def transfers(jobs: list[dict[str, object]], directory: Path) -> None:
    """What the child does."""
    from hotspare.dataplane.control import Control
    from hotspare.dataplane.engine import CopyJob, copy_disk
    from hotspare.dataplane.journal import Journal
    from hotspare.dataplane.layers import folded
    from hotspare.dataplane.plan import PassId, plan_disk
    from hotspare.dataplane.tables import DiskPasses, build_table
    from hotspare.platforms.port import Unknown

    from .dataplane_full_copy import KEY, Fixed

    for name in LOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"not loaded: {name}", file=sys.stderr)
    loaded = status("VmRSS")
    errors: list[BaseException] = []

    def one(number: int, source: str, target: str, size: int) -> None:
        try:
            who = PassId("00000000", f"vd{number}", "i1", size)
            plan = plan_disk(directory / f"{number}.plan", pass_id=who, export=Fixed(source),
                             changes=Unknown("bench"), control=Control(), fresh=True,
                             target_zero=True)
            with Journal(directory / f"{number}.journal", who) as journal:
                copy_disk(CopyJob(Fixed(source), Fixed(target), plan, journal, KEY), Control())
                table = build_table(directory / f"{number}.table",
                                    {who.disk: DiskPasses(size, [(plan, journal)])})
            if number == 0:
                again = PassId("00000000", "vd0", "i2", size)
                with folded(directory, size, "vd0", [table]) as expected, \
                        Journal(directory / "again.journal", again) as journal:
                    plan = plan_disk(directory / "again.plan", pass_id=again, control=Control(),
                                     export=Fixed(source), changes=Unknown("bench"),
                                     fresh=False, target_zero=False, expected=expected)
                    result = copy_disk(CopyJob(Fixed(source), Fixed(target), plan, journal, KEY,
                                               compare_with=expected), Control())
                    assert result.bytes_written == 0, result
            table.close()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=one, args=(n, j["source"], j["target"], j["size"]))
               for n, j in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise SystemExit(1)
    print(json.dumps({"rss_mib": status("VmHWM"), "loaded_mib": loaded}))


def status(name: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(next(li for li in text.splitlines() if li.startswith(name)).split()[1]) / 1024


def main() -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "child":
        task = json.loads(sys.argv[2])
        transfers(task["jobs"], Path(task["directory"]))
        return 0
    with common.scratch("/tmp") as directory, ExitStack() as stack:
        jobs = []
        for n, (size, percent) in enumerate(((TIB, "0.05"), *[(8 << 30, "6")] * 3)):
            # the plugin makes the same content for the same seed, and refuses a wrong write
            uris = [stack.enter_context(common.server(
                directory / f"{side}{n}", "nbdkit", "-f", "-U", str(directory / f"{side}{n}"),
                "sparse-random", f"size={size}", f"seed={n}", f"percent={percent}"))
                for side in "sd"]
            jobs.append({"source": uris[0], "target": uris[1], "size": size})
        done = subprocess.run(
            [sys.executable, "-m", "bench.dataplane_memory", "child",
             json.dumps({"jobs": jobs, "directory": str(directory)})],
            check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout)
    common.report("memory", figures, {}, {"rss_mib": "wanted <= 200"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
