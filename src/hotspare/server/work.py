"""``hotspare worker``: a DR machine by itself, which talks to its control server over HTTPS."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from ..client.client import fetch_ca
from ..worker import configuration, enrolment, folders, instance, machine
from ..worker.local_socket import LocalSocket
from ..worker.outbox import Outbox
from ..worker.remote_link import About, RemoteLink
from .process import only_one, prepare

SHUTDOWN_S = 10.0
_AWAKE_S = 0.5


def work(state_dir: Path, temp_dir: Path | None = None, *, config: Path | None = None,
         server: str | None = None, code: str | None = None, name: str | None = None,
         as_json: bool = False) -> int:
    """Run until SIGTERM or SIGINT, or until the server refuses this machine for good. Returns
    the exit code; raises what the server refused it for."""
    found = configuration.read(config)
    prepare(state_dir)
    with only_one(state_dir):
        temp = temp_dir or found.temp_dir or state_dir / "temp"
        if code is not None and server is not None and name is not None:
            enrolled = enrolment.enrol(state_dir, server, code, name, str(temp), fetch_ca)
        else:
            enrolled = enrolment.found(state_dir, server)
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: ended.set())
        outbox = Outbox(state_dir / "outbox.sqlite")
        mine = instance.begin(state_dir)
        link = RemoteLink(enrolled.connect(mine.now), outbox, About(str(temp), found.configured),
                          ended.set, mine)
        worker = machine.start(link.start(), state_dir=state_dir, temp_dir=temp)
        folders.watch(temp, link.foreign, ended)
        local = LocalSocket(state_dir, link.overview)
        ready = {"event": "ready", "name": enrolled.name, "server": enrolled.server,
                 "state_dir": str(state_dir), "temp_dir": str(temp)}
        print(json.dumps(ready) if as_json else
              f"DR machine {enrolled.name} works for {enrolled.server}", flush=True)
        # The kernel may hand a signal to another thread; the handler runs when this one wakes.
        while not ended.wait(_AWAKE_S):
            pass
        watchdog = threading.Timer(SHUTDOWN_S, lambda: os._exit(1 if link.refused else 0))
        watchdog.daemon = True
        watchdog.start()
        local.close()
        link.close()
        worker.stop()
        if link.refused is not None:
            raise link.refused
    return 0
