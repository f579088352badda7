"""One nbdkit for one disk, on a socket of its own, which ends with this process."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ...domain.errors import GiveUp
from ..port import Leftover

SUFFIX = ".nbdkit"
HEARD_S = 0.5
"""A client can see its request fail before we have read why."""
READY_S, END_S = 30.0, 60.0
"""The second is for VMware's library: killed while it lets a disk go, it leaves it locked."""

_TRANSPORT = re.compile(r"transport mode: (\S+)")
_ERROR = re.compile(r"error: (.*)")


class Nbdkit:
    """``transport``: how the library says that it reads, known once a client is connected."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.uri = f"nbd+unix:///?socket={path}"
        self.transport = ""
        self._process = process
        self._errors: deque[str] = deque(maxlen=8)
        self._said = threading.Event()
        self._reader = threading.Thread(target=self._read, name="nbdkit-log", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := _TRANSPORT.search(line):
                self.transport = found[1]
            elif found := _ERROR.search(line):
                self._errors.append(found[1])
                self._said.set()
        self._said.set()            # it has ended, and says nothing more

    @property
    def complaint(self) -> str:
        """What it said last of what went wrong; empty: nothing. For whom something did."""
        self._said.wait(HEARD_S)
        return "; ".join(dict.fromkeys(self._errors))

    def end(self) -> None:
        """Let it close the disk in order; only then may the snapshot be removed."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)


@contextlib.contextmanager
def served(prefix: str, plugin: str, words: Mapping[str, str], *, secret: str = "",
           writable: bool = False, filters: Sequence[str] = (),
           files: Mapping[str, str] | None = None) -> Iterator[Nbdkit]:
    """nbdkit with ``plugin``, ready for clients. ``prefix`` names its directory, by which
    :func:`sweep` finds it. ``secret`` goes to it over a pipe, as the parameter ``password``;
    ``files`` are parameters that are given as files with this content.

    Raises GiveUp ``nbdkit.missing`` and ``nbdkit.failed``."""
    program = shutil.which("nbdkit")
    if program is None:
        raise GiveUp("nbdkit.missing")
    directory = Path(tempfile.mkdtemp(prefix=f"{prefix}.", suffix=SUFFIX))
    path = directory / "socket"
    read_end, write_end = os.pipe()
    try:
        with os.fdopen(write_end, "w") as pipe:
            pipe.write(f"{secret}\n")
        if secret:
            words = {**words, "password": f"-{read_end}"}
        for name, content in (files or {}).items():
            (directory / name).write_text(content)
            words = {**words, name: str(directory / name)}
        process = subprocess.Popen(
            [program, "--foreground", "--exit-with-parent", "--verbose",
             "-D", "nbdkit.backend.datapath=0", "--unix", str(path),
             "--pidfile", str(directory / "ready"),
             *(() if writable else ("--readonly",)), *(f"--filter={f}" for f in filters), plugin,
             *(f"{name}={value}" for name, value in words.items())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace", pass_fds=(read_end,))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    finally:
        os.close(read_end)
    made = Nbdkit(process, path)
    try:
        _wait(process, directory / "ready", made)
        yield made
    finally:
        made.end()
        shutil.rmtree(directory, ignore_errors=True)


def _wait(process: subprocess.Popen[str], ready: Path, made: Nbdkit) -> None:
    end = time.monotonic() + READY_S
    while not ready.exists():       # written when it listens
        if process.poll() is not None or time.monotonic() > end:
            made.end()
            raise GiveUp("nbdkit.failed", reason=made.complaint or f"status {process.returncode}")
        time.sleep(0.005)


def sweep(prefix: str, keep: Collection[str]) -> list[Leftover]:
    """Remove the directories that killed processes left; their nbdkits ended with them. Those of
    the names in ``keep`` and those that are in use stay."""
    found = []
    for directory in Path(tempfile.gettempdir()).glob(f"{prefix}*{SUFFIX}"):
        if directory.name.split(".")[0] in keep or _answers(directory / "socket"):
            continue
        error = ""
        try:
            shutil.rmtree(directory)
        except OSError as fault:
            error = str(fault)
        found.append(Leftover("socket", directory.name, error))
    return found


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def loads(plugin: str, words: Mapping[str, str]) -> str:
    """The plugin's version. Raises GiveUp ``nbdkit.missing``, ``nbdkit.failed``."""
    program = shutil.which("nbdkit")
    if program is None:
        raise GiveUp("nbdkit.missing")
    try:
        done = subprocess.run(
            [program, "--dump-plugin", plugin, *(f"{k}={v}" for k, v in words.items())],
            capture_output=True, text=True, timeout=READY_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise GiveUp("nbdkit.failed", reason=str(error)) from error
    facts = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode or "version" not in facts:
        raise GiveUp("nbdkit.failed", reason=done.stderr.strip() or done.stdout.strip())
    return facts["version"]


