"""Which process is the DR machine: a state directory that was copied makes two of it.

Each process has a number of its own and names the one that the server took before it. So the
server tells the next process of the same directory, which goes on at once, from a copy.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from ..services.keys import write_private

_NAME = "instance.json"


@dataclass(frozen=True, slots=True)
class Instance:
    """``before``: the last process that the server took; empty when there was none."""

    path: Path
    now: str
    before: str

    def accepted(self) -> None:
        """The server took this process."""
        _write(self.path, self.now, "")


def begin(state_dir: Path) -> Instance:
    """Called once a process. A number that the server perhaps took without our hearing of it is
    used again."""
    path = state_dir / _NAME
    try:
        kept = json.loads(path.read_text())
        before, tried = str(kept["accepted"]), str(kept["tried"])
    except (OSError, ValueError, KeyError, TypeError):
        before = tried = ""
    now = tried or secrets.token_hex(8)
    _write(path, before, now)
    return Instance(path, now, before)


def _write(path: Path, accepted: str, tried: str) -> None:
    write_private(path, json.dumps({"accepted": accepted, "tried": tried}).encode())
