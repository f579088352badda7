"""Named instants in the real code at which a crash test ends the process.

``HOTSPARE_FAULT=NAME[#N]:ACTION`` acts at the N-th (default first, ``*`` each) passing of NAME
in this process: ``kill`` (SIGKILL to ourselves), ``sleep=S``, or ``touch=PATH`` (create PATH, then
wait until it is gone, so that a test can do something at exactly this instant).
``HOTSPARE_FAULT_LOG`` names a file that each passing is appended to. Without either a fault point
costs one look-up of a module variable.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

_spec = os.environ.get("HOTSPARE_FAULT", "")
_log = os.environ.get("HOTSPARE_FAULT_LOG", "")
_active = bool(_spec or _log)
_seen = 0
_lock = threading.Lock()


def fault_point(name: str) -> None:
    """Pass the instant ``name``."""
    if _active:
        _pass(name)


def _pass(name: str) -> None:
    global _seen  # noqa: PLW0603  (one counter a process is the meaning)
    if _log:
        with Path(_log).open("a") as log:
            log.write(f"{name}\n")
    where, _, action = _spec.partition(":")
    where, _, nth = where.partition("#")
    if where != name:
        return
    with _lock:
        _seen += 1
        if nth != "*" and _seen != int(nth or 1):
            return
    verb, _, value = action.partition("=")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "sleep":
        time.sleep(float(value))
    elif verb == "touch":
        Path(value).touch()
        while Path(value).exists():
            time.sleep(0.01)
