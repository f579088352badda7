"""Small tools that every bench uses: servers, alternating pairs, results.

A result is ``bench/results/NAME.json``::

    {"bench": NAME, "figures": {name: number}, "peers": {peer: {"ratio": number}}}

``ratio`` is the peer's time divided by ours: above 1 Hotspare is faster. Each pair is one run of
ours and one of the peer, in changing order, and the ratio is the median over the pairs: a machine
that is busy for a while then slows both sides of a pair, not one side of the comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MIB = 1 << 20


def arguments(pairs: int = 5, **defaults: int) -> argparse.Namespace:
    """``--pairs`` and one integer option for each of ``defaults``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=pairs)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    return parser.parse_args()


@contextmanager
def scratch(where: str) -> Iterator[Path]:
    """A directory of its own below ``where``, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="hs-bench-", dir=where))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def server(socket: Path, *command: str) -> Iterator[str]:
    """An NBD server on ``socket``; gives its URI, ends it by its pid."""
    socket.unlink(missing_ok=True)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not start")
            time.sleep(0.01)
        time.sleep(0.1)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        process.terminate()
        process.wait()


def seconds(work: Callable[[], object], spent: list[float] | None = None) -> float:
    """Seconds that ``work`` takes. ``spent`` takes its processor seconds, those of processes that
    it started and waited for included: on a busy machine they say more."""
    began, processor = time.perf_counter(), sum(os.times()[:4])
    work()
    took = time.perf_counter() - began
    if spent is not None:
        spent.append(sum(os.times()[:4]) - processor)
    return took


def pairs(own: Callable[[], float], peer: Callable[[], float],
          number: int) -> tuple[list[float], list[float]]:
    """Seconds of ``number`` runs of each, alternating, the first of a pair changing."""
    ours, theirs = [], []
    for n in range(number):
        for mine in ((True, False) if n % 2 == 0 else (False, True)):
            os.sync()
            (ours if mine else theirs).append((own if mine else peer)())
    return ours, theirs


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the pairs of the peer's time over ours."""
    return statistics.median(t / o for o, t in zip(ours, theirs, strict=True))


def report(name: str, figures: Mapping[str, float], peers: Mapping[str, Mapping[str, float]],
           wanted: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Print a table and write the result file."""
    result = {"bench": name, "figures": {k: round(v, 3) for k, v in figures.items()},
              "peers": {p: {k: round(v, 3) for k, v in row.items()} for p, row in peers.items()}}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    rows = [(k, f"{v:.3f}", (wanted or {}).get(k, "")) for k, v in figures.items()]
    rows += [(f"{p} ratio", f"{row['ratio']:.3f}", (wanted or {}).get(p, ""))
             for p, row in peers.items()]
    width = max(len(r[0]) for r in rows)
    print(f"\n{name}")
    for what, value, want in rows:
        print(f"  {what:<{width}}  {value:>12}  {want}")
    print(f"  -> {path}")
    return result
