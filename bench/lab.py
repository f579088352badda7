"""What the benches of whole runs share: two hosts, a Hotspare between them and one guest.

Everything is what an operator has: ``hotspare up`` as a process of its own, reached over REST, and
a guest with an agent. Nothing is left afterwards, also after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import common

if TYPE_CHECKING:
    from e2e.rig import Rig
    from hotspare.client.client import Client
    from testbeds.kvm import Guest, Lab

CHANGE = "dd if=/dev/urandom of=/data/x bs=1M count=1 conv=fsync"
_MADE_GIB = 10      # the test bed writes disks through raw files; larger ones are grown afterwards
_POLL_S = 0.1       # seconds between looks at a task: looking costs the time of a core
_TASK_S = 600.0


def run_bench(bench: Callable[[], int]) -> int:
    """``bench()``, with what is missing on this machine said in words and not as a traceback."""
    # the lab installs a handler of its own only where there is none
    signal.signal(signal.SIGTERM, _terminated)
    from testbeds.kvm.errors import TestbedError

    try:
        return bench()
    except TestbedError as error:
        print(f"Error: {error.cause}\n  {error.remedy}", file=sys.stderr)
        return 1


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Unwind as Ctrl-C does, once: a second signal must not break the cleaning up off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def start_guest(lab: Lab, name: str, *, disk_gib: int, rate: float) -> Guest:
    """Define a guest on host a, and wait until its agent answers."""
    guest = lab.define_guest(lab.a, name, disk_gib=min(disk_gib, _MADE_GIB), rate=rate)
    if disk_gib > _MADE_GIB:
        subprocess.run(["qemu-img", "resize", "-q", str(guest.disk_paths[0]), f"{disk_gib}G"],
                       check=True)
    guest.start()
    guest.wait_ready()
    guest.wait_agent()
    return guest


@contextmanager
def protected(*, disk_gib: int, rate: float = 0.0, retention: int = 7,
              fault: str = "") -> Iterator[Rig]:
    """A running guest with a rule, its first copy done. ``rate``: records a second that it
    writes. ``fault``: where Hotspare waits (see :mod:`hotspare.faultpoints`)."""
    from e2e.rig import Rig, Server
    from testbeds.kvm import Lab

    with ExitStack() as stack:
        print(f"starting two hosts, a guest with {disk_gib} GiB and a Hotspare ...", flush=True)
        lab = stack.enter_context(Lab())
        directory = stack.enter_context(common.scratch("/tmp"))     # noqa: S108
        server = Server(directory)
        stack.callback(server.stop)
        server.start(fault)
        rig = Rig(lab, server, start_guest(lab, "bench", disk_gib=disk_gib, rate=rate))
        rig.protect(retention=retention)
        seconds = common.seconds(lambda: rig.run(timeout_s=_TASK_S))
        print(f"first copy: {seconds:.1f} s", flush=True)
        yield rig


def change(guest: Guest, mib: int = 1, file: str = "x") -> None:
    """New noise in a file on the guest's disk, and fsynced there."""
    done = guest.exec(CHANGE.replace("count=1", f"count={mib}").replace("/x", f"/{file}"))
    if done.rc:
        raise RuntimeError(f"the guest could not write: {done.err}")


def ended(client: Client, task: int) -> dict[str, Any]:
    """The task once it has ended well."""
    end = time.monotonic() + _TASK_S
    while True:
        found = client.task(task)
        if found["state"] == "ended":
            break
        if time.monotonic() > end:
            raise RuntimeError(f"task {task} did not end within {_TASK_S:.0f} s")
        time.sleep(_POLL_S)
    if found["outcome"] != "ok":
        raise RuntimeError(f"task {task} ended with {found['outcome']}: {found['error']}")
    return dict(found)


def failed_over(rig: Rig, client: Client) -> Guest:
    """The replica of the newest point, once its agent answers."""
    ended(client, client.failover(rig.rule, None))
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    replica.wait_agent()
    return replica


def replicate(client: Client, rule: str) -> tuple[dict[str, Any], float]:
    """One run. Returns its task, and the seconds from the command until the point was published
    and durable: the end of its step ``publish`` by the server's clock, which is this machine's."""
    began = time.time()
    task = ended(client, client.start_rule(rule))
    published = next(s for s in task["steps"] if s["name"] == "publish")
    return task, float(published["ended_at"]) - began


def step_times(tasks: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Median milliseconds by step; ``dispatch`` is the time before the first, ``between`` all
    the time from one to the next."""
    rows: dict[str, list[float]] = {}
    for task in tasks:
        last, between = float(task["created_at"]), 0.0
        for n, step in enumerate(task["steps"]):
            gap = step["started_at"] - last
            if n == 0:
                rows.setdefault("dispatch", []).append(gap)
            else:
                between += gap
            rows.setdefault(step["name"], []).append(step["ended_at"] - step["started_at"])
            last = step["ended_at"]
        rows.setdefault("between", []).append(between)
    return {name: statistics.median(values) * 1000 for name, values in rows.items()}


def print_steps(tasks: Iterable[Mapping[str, Any]]) -> None:
    """The steps of the runs, for whoever wants to know where the time went."""
    times = step_times(tasks)
    print("  median ms by step: "
          + ", ".join(f"{name} {value:.0f}" for name, value in times.items()), flush=True)
