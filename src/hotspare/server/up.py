"""``hotspare up``: control server and one DR machine in one process, nothing else needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..services import Services
from ..worker import configuration, folders
from ..worker.local_socket import LocalSocket
from ..workflows.link import Link
from .control import Settings, run

MACHINE = "local"


class Worker(Protocol):
    """A DR machine that runs."""

    def stop(self) -> None: ...


class StartWorker(Protocol):
    def __call__(self, link: Link, *, state_dir: Path, temp_dir: Path) -> Worker: ...


def _start_worker(link: Link, *, state_dir: Path, temp_dir: Path) -> Worker:
    from ..worker import machine

    worker: Worker = machine.start(link, state_dir=state_dir, temp_dir=temp_dir)
    return worker


def up(settings: Settings, temp_dir: Path | None = None, config: Path | None = None,
       start_worker: StartWorker = _start_worker) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    found = configuration.read(config)
    temp = temp_dir or found.temp_dir or settings.state_dir / "temp"

    def start(services: Services) -> Callable[[], None]:
        temp.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = services.link(MACHINE, temp, found.configured)
        worker = start_worker(link, state_dir=settings.state_dir, temp_dir=temp)
        local = LocalSocket(settings.state_dir, link.overview)
        ended = threading.Event()
        folders.watch(temp, link.foreign, ended)

        def stop() -> None:
            ended.set()
            local.close()
            worker.stop()

        return stop

    return run(settings, start)
