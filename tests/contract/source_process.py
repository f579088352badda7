"""A process of its own that opens an instant, for tests that kill it.

``python -m contract.source_process REQUEST`` with REQUEST in JSON: uri, options, vm, base, quiesce,
intent, commit. Prints one line when the instant is open (and committed), then waits for its
death.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hotspare.platforms.libvirt.platform import LibvirtPlatform
from hotspare.platforms.port import Intent, PlatformAccess, Quiesce, Token

from .source_libvirt_rig import LibvirtRig

TESTS = Path(__file__).parent.parent


def start(rig: LibvirtRig, base: Token | None, quiesce: Quiesce, intent: Intent,
          fault: str = "", commit: bool = False) -> subprocess.Popen[str]:
    access = rig.access()
    request = {"uri": access.uri, "options": dict(access.options), "vm": rig.vm, "base": base,
               "quiesce": quiesce, "intent": [intent.rule, intent.epoch, intent.task],
               "commit": commit}
    return subprocess.Popen(
        [sys.executable, "-m", "contract.source_process", json.dumps(request)], cwd=TESTS,
        stdout=subprocess.PIPE, text=True, env={**os.environ, "HOTSPARE_FAULT": fault})


def opened(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for it to open the instant."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the process died"
    answer: dict[str, Any] = json.loads(line)
    return answer


def main(text: str) -> None:
    request = json.loads(text)
    platform = LibvirtPlatform(
        PlatformAccess("test", "libvirt", request["uri"], request["options"]))
    point = platform.source.open_point(request["vm"], request["base"], request["quiesce"],
                                       Intent(*request["intent"]))
    if request["commit"]:
        point.commit()
    print(json.dumps({"taken_at": point.taken_at, "token": point.token}), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
