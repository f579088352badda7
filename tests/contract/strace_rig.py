"""What a QEMU writes and syncs, in order, by its system calls: kill tests cannot prove fsync."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from testbeds.kvm import SessionHost

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")

_CALL = re.compile(r"\d+\s+(\w+)\(\d+<([^>]+)>")
_OFFSET = re.compile(r", (\d+)(?:\)| <unfinished)")


class Call(NamedTuple):
    """A write as it began, or a sync as it returned."""

    kind: str                       # write, sync
    file: str                       # name without its directory
    offset: int                     # of a write; -1: not told


class Trace:
    """The calls of the QEMU of the domain ``name`` until it ends."""

    def __init__(self, host: SessionHost, name: str, directory: Path) -> None:
        self._host, self._name = host, name
        self._log = directory / "strace.log"

    def __enter__(self) -> Trace:
        pid = self._host.qemu_pids()[self._name]
        self._process = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "0", "-e", "trace=write,pwrite64,pwritev,pwritev2,"
             "fdatasync,fsync,fallocate,io_uring_enter", "-p", str(pid), "-o", str(self._log)],
            stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        assert b"attached" in self._process.stderr.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.wait(20)      # it ends with QEMU

    def calls(self) -> list[Call]:
        found = []
        pending: dict[str, str] = {}
        for line in self._log.read_text("utf-8", "replace").splitlines():
            thread = line.split()[0]
            match = _CALL.match(line)
            if match:
                name = Path(match[2]).name
                if match[1] in ("fdatasync", "fsync"):
                    # it counts when it has returned
                    if "unfinished" in line:
                        pending[thread] = name
                    else:
                        found.append(Call("sync", name, -1))
                elif match[1] != "write":   # eventfds and sockets
                    offset = _OFFSET.search(line)
                    plain = match[1] != "fallocate" and offset is not None
                    found.append(Call("write", name, int(offset[1]) if plain else -1))
            elif "resumed>" in line and thread in pending and "sync" in line:
                found.append(Call("sync", pending.pop(thread), -1))
        return found

    def events(self) -> list[tuple[str, str]]:
        """The kinds and the files alone."""
        return [(call.kind, call.file) for call in self.calls()]
