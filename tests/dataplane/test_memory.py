"""A tebibyte costs little memory: plan, copy and journal in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .jobs import KEY, make_plan
from .nbdservers import Servers

TIB = 1 << 40


def test_a_tebibyte(servers: Servers, tmp_path: Path) -> None:
    # the plugin's content is a function of its seed; it refuses a write of anything else
    arguments = ("sparse-random", f"size={TIB}", "seed=7", "percent=0.005", "runlength=1048576")
    source, sink = servers.nbdkit(*arguments), servers.nbdkit(*arguments)
    plan = make_plan(tmp_path, source.export, TIB)
    assert 10 << 20 < plan.totals.data < 200 << 20
    done = subprocess.run(
        [sys.executable, "-m", "dataplane.copy_child", json.dumps({
            "source": source.export.endpoint.uri, "target": sink.export.endpoint.uri,
            "plan": str(plan.path), "journal": str(tmp_path / "j"), "key": KEY.hex()})],
        cwd=Path(__file__).parents[1], check=True, text=True, stdout=subprocess.PIPE)
    result = json.loads(done.stdout)
    assert result["bytes_read"] == plan.totals.data
    assert result["peak_kib"] < 100 * 1024
