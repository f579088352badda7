"""One DR machine in this process: takes tasks from its link and runs them durably."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from ..dataplane.tuning import Tuning
from ..domain.errors import GiveUp, HotspareError, OutOfSpace
from ..platforms.port import Connect, Platform, PlatformAccess
from ..workflows.bench import Tools
from ..workflows.execute import argument_of, execute
from ..workflows.link import Link
from .runner import DbosRunner, Json, Record

logger = logging.getLogger(__name__)

LEAST_FREE = 64 * 1024 * 1024
"""Bytes that must be free in the temporary and the state directory before a machine takes another
task."""


def _connect(access: PlatformAccess) -> Platform:
    """The one place where concrete drivers are wired."""
    if access.kind == "libvirt":
        from ..platforms.libvirt.platform import connect

        return connect(access)
    if access.kind == "vsphere":
        from ..platforms.vsphere.platform import connect as connect_vsphere

        return connect_vsphere(access)
    raise GiveUp("platform.unknown-kind", kind=access.kind)


class PlatformPool:
    """Connections that are open and free, so that a run every ten seconds does not pay for a new
    one each time. A connection is used by one task at a time, and only with the same access."""

    def __init__(self, connect: Connect = _connect, keep: int = 4) -> None:
        self._connect = connect
        self._keep = keep
        self._free: list[tuple[PlatformAccess, Platform]] = []
        self._guard = threading.Lock()

    def borrow(self, access: PlatformAccess) -> Platform:
        with self._guard:
            for index, (owner, platform) in enumerate(self._free):
                if owner == access:
                    del self._free[index]
                    return platform
        return self._connect(access)

    def give_back(self, access: PlatformAccess, platform: Platform, fit: bool) -> None:
        if fit:
            with self._guard:
                self._free.append((access, platform))
                spare = self._free.pop(0) if len(self._free) > self._keep else None
            if spare is None:
                return
            platform = spare[1]
        try:
            platform.close()
        except HotspareError as error:
            logger.debug("closing a connection: %s", error)


def _hold(temp_dir: Path) -> int:
    """One machine a temporary directory, which two that read one worker.toml may share: each would
    sweep the other's folders. Held until the process ends."""
    lock = os.open(temp_dir / ".hotspare-lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise GiveUp("worker.temp-dir-shared", path=str(temp_dir)) from None
    return lock


class Machine:
    """A DR machine that runs. ``stop()`` lets every instant go, so that nothing of ours stays
    open on production while we are away; the tasks go on at the next start."""

    def __init__(self, link: Link, state_dir: Path, temp_dir: Path,
                 connect: Connect = _connect, tuning: Tuning | None = None) -> None:
        self._check_temp_dir(temp_dir)
        self._state_dir = state_dir
        self._lock = _hold(temp_dir)
        pool = PlatformPool(connect)
        self._tools = Tools(link=link, borrow=pool.borrow, give_back=pool.give_back,
                            temp_dir=temp_dir, tuning=tuning or Tuning())
        self._link = link
        self._busy = 0
        self._idle = threading.Condition()
        self._runner = DbosRunner(state_dir / "machine", self._body)
        self._thread = threading.Thread(target=self._loop, name="machine", daemon=True)
        self._thread.start()

    @staticmethod
    def _check_temp_dir(temp_dir: Path) -> None:
        try:
            temp_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = temp_dir / ".hotspare-probe"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise GiveUp("worker.temp-dir", directory=str(temp_dir),
                         error=error.strerror or str(error)) from None

    def _body(self, argument: Json, record: Record) -> None:
        with self._idle:
            self._busy += 1
        try:
            execute(argument, record, self._tools, self._park)
        finally:
            self._done()

    def _done(self) -> None:
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()

    def _park(self) -> None:
        """The task has let everything go; its thread must not return, or its step would be
        recorded. It ends with the process."""
        self._done()
        threading.Event().wait()

    def _obstacle(self) -> dict[str, Any] | None:
        """Why a new task could not do its work here: ``code`` and ``fields``."""
        directory = self._tools.temp_dir
        try:
            self._check_temp_dir(directory)
            for code, where in (("worker.temp-dir-full", directory),
                                ("worker.state-dir-full", self._state_dir)):
                if shutil.disk_usage(where).free < LEAST_FREE:
                    raise OutOfSpace(code, directory=str(where), needed=LEAST_FREE >> 20)
        except HotspareError as error:
            return {"code": error.code, "fields": error.fields}
        return None

    def _loop(self) -> None:
        said = None
        while not self._tools.closing.is_set():
            try:
                obstacle = self._obstacle()
                if obstacle != said:
                    self._link.busy(obstacle)
                    said = obstacle
                task = self._link.next_task(wait_s=10.0)
                if task is not None and not self._tools.closing.is_set():
                    self._runner.start(f"task-{task.id}-e{task.epoch}", argument_of(task))
            except Exception:
                # The machine must outlive any fault of one task or of the link.
                logger.exception("taking a task failed")
                self._tools.closing.wait(2.0)

    def stop(self, timeout_s: float = 8.0) -> None:
        """Let go of all that is open. The process should end soon afterwards."""
        self._tools.closing.set()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout_s)


def start(link: Link, state_dir: Path, temp_dir: Path,
          tuning: Tuning | None = None) -> Machine:
    """Start a DR machine. Raises GiveUp when its directories cannot be used."""
    return Machine(link, state_dir, temp_dir, tuning=tuning)
