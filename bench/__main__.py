"""``python -m bench`` runs all benches, ``python -m bench NAME`` one of them.

Each is a process of its own: one that fails does not stop the others, and none measures what
another has left in memory. What follows NAME goes to that bench (``--pairs 9``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

BENCHES = {
    "full-copy": "dataplane_full_copy",
    "scattered": "dataplane_scattered",
    "memory": "dataplane_memory",
    "cycle": "cycle",
    "stall": "stall",
    "failover": "failover",
    "undo": "undo",
    "failback": "failback",
    "permanent": "permanent",
    "scale": "scale",
}

_ROOT = Path(__file__).parents[1]
_PATH = ":".join(str(_ROOT / part) for part in ("src", "tests", ""))
_CLEAN_UP_S = 60        # seconds that a bench that was told to end has for removing what it made


def run(name: str, options: list[str]) -> int:
    """One bench, to its end. A bench that is told to end cleans up first, and is waited for."""
    process = subprocess.Popen([sys.executable, "-m", f"bench.{BENCHES[name]}", *options],
                               env=os.environ | {"PYTHONPATH": _PATH})
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process)               # a terminal's Ctrl-C has reached the bench, too
        raise
    except BaseException:
        process.terminate()
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    for more in (process.terminate, process.kill):
        try:
            process.wait(_CLEAN_UP_S)
            return
        except subprocess.TimeoutExpired:
            more()


def _terminated(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, _terminated)
    if arguments and arguments[0] not in BENCHES:
        print(f"There is no bench {arguments[0]!r}. There are: {', '.join(BENCHES)}.",
              file=sys.stderr)
        return 2
    names = arguments[:1] or list(BENCHES)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        if run(name, arguments[1:]) != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
