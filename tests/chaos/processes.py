"""The processes of a fleet, which come and go."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from e2e.rig import HOTSPARE, Server, hotspare
from hotspare.client.client import Client
from hotspare.domain.errors import GiveUp, HotspareError
from unit.fleet_rig import Cut

T = TypeVar("T")

MARK = "HOTSPARE_CHAOS_MARK"
"""A variable of the environment that tells our processes, and all that they start, from others."""


class Control(Server):
    """``hotspare server``. Each DR machine reaches it through a way of its own."""

    def __init__(self, directory: Path, database: str | None = None) -> None:
        super().__init__(directory)
        self.environment = {"HOTSPARE_DATABASE": database} if database else {}
        self.ways: list[Cut] = []

    def start(self, fault: str = "", fault_log: Path | None = None) -> Control:
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(
                [HOTSPARE, "server", "--state-dir", str(self.state_dir), "--listen",
                 "127.0.0.1:0", "--json"], stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | self.environment | {
                    "HOTSPARE_ADMIN_PASSWORD": "canary-password-93f1"})
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server ended: {self.log.read_text()[-3000:]}"
        self.url = json.loads(line)["url"]
        for way in self.ways:
            way.mend(self.port)
        return self

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


class Machine:
    """``hotspare worker``."""

    def __init__(self, control: Control, name: str) -> None:
        self.name = name
        self.way = Cut(control.port)
        control.ways.append(self.way)
        self.state_dir = control.directory / name
        self.temp_dir = control.temp_dir / name
        self.log = control.directory / f"{name}.log"
        self._control = control
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Machine:
        command = [HOTSPARE, "worker", "--state", str(self.state_dir), "--temp-dir",
                   str(self.temp_dir), "--json"]
        environment = dict(os.environ)
        if not (self.state_dir / "worker.json").exists():
            environment["HOTSPARE_ENROL"] = hotspare(
                self._control, "machine", "enrol", self.name, "--json").json["code"]
            command += ["--server", f"https://127.0.0.1:{self.way.port}", "--name", self.name]
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors,
                                            text=True, env=environment)
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), f"{self.name}: {self.log.read_text()[-3000:]}"
        return self

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As systemd does. A machine that ends late is a fault."""
        if not self.alive:
            return
        assert self.process is not None
        self.signal(signal.SIGCONT)
        self.process.terminate()
        code = self.process.wait(20)
        assert code == 0, f"{self.name} ended with {code}: {self.log.read_text()[-3000:]}"


class Api:
    """The server for one thread, found again after its restart."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: Client | None = None
        self._url = ""

    def __call__(self, work: Callable[[Client], T]) -> T:
        """Raises what the server answers, and ``client.unreachable`` while there is none."""
        if self._client is None or self._url != self._server.url:
            self.close()
            self._url = self._server.url
            try:
                self._client = self._server.client().__enter__()
            except FileNotFoundError:       # it takes its ready file with it when it is stopped
                raise GiveUp("client.unreachable", url=self._url, why="stopped") from None
        try:
            return work(self._client)
        except HotspareError as error:
            if error.code == "client.unreachable":
                self.close()
            raise

    def close(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.__exit__(None, None, None)
            self._client = None


def mark() -> str:
    """Mark what this process starts from now on."""
    os.environ[MARK] = secrets.token_hex(8)
    return os.environ[MARK]


def marked(mark: str) -> list[str]:
    """The processes with that mark which run, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if command:     # a zombie has none
                        found.append(f"{entry.name} {command}")
    return found
