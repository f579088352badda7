"""``hotspare worker`` as a process: it ends when it is told to."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unit.fleet_rig import fleet

SYS_TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_whichever_thread_gets_the_signal(tmp_path: Path, number: signal.Signals) -> None:
    """The kernel gives a signal to another thread when the main one has one pending already, as
    with a SIGCONT just before it."""
    with fleet(tmp_path, platforms=False) as made:
        made.enrol("m1")
        state_dir = tmp_path / "m1"
        process = subprocess.Popen(
            [sys.executable, "-m", "hotspare.cli.main", "worker", "--state", str(state_dir),
             "--temp-dir", str(tmp_path / "temp"), "--json"], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "ready"
            threads = [int(t.name) for t in Path(f"/proc/{process.pid}/task").iterdir()]
            others = [t for t in threads if t != process.pid]
            assert not ctypes.CDLL(None).syscall(SYS_TGKILL, process.pid, others[-1], number)
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
