"""Real NBD servers for the tests: qemu-nbd and nbdkit on unix sockets, ended by their pid."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotspare.platforms.port import NbdEndpoint


def uri(socket: Path, export: str = "") -> str:
    return f"nbd+unix:///{export}?socket={socket}"


class Fixed:
    """An export that is always there."""

    def __init__(self, socket: Path, export: str = "", *, request_max: int = 2 << 20,
                 connections: int = 4) -> None:
        self.endpoint = NbdEndpoint(uri(socket, export), request_max, connections)
        self.opened = 0

    @contextmanager
    def open(self) -> Iterator[NbdEndpoint]:
        self.opened += 1
        yield self.endpoint


class Server:
    """One server process."""

    def __init__(self, socket: Path, command: list[str]) -> None:
        self.socket, self.command = socket, command
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not self._listens():
            assert self.process.poll() is None, self.command
            assert time.monotonic() < end, self.command
            time.sleep(0.01)

    def _listens(self) -> bool:
        """The socket's name is there a moment before it listens. Asked of the kernel: a
        connection to try it would be one more in a server's log."""
        for line in Path("/proc/net/unix").read_text().splitlines():
            fields = line.split(maxsplit=7)
            if len(fields) == 8 and fields[7] == str(self.socket):
                return bool(int(fields[3], 16) & 0x10000)      # __SO_ACCEPTCON
        return False

    def send(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def restart_if_dead(self) -> None:
        """nbdkit 1.32 may fail an assertion of its own when its client is killed."""
        if self.process is not None and self.process.poll() is not None:
            self.start()

    @property
    def export(self) -> Fixed:
        return Fixed(self.socket)


class Servers:
    """Starts servers below one directory and ends them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._all: list[Server] = []

    def qemu(self, image: Path, fmt: str = "raw", *, read_only: bool = False,
             options: tuple[str, ...] = ()) -> Server:
        socket = self.directory / f"q{len(self._all)}.sock"
        command = ["qemu-nbd", "-t", "-e", "8", "-f", fmt, "-k", str(socket), "-x", "",
                   *(("-r",) if read_only else ()), *options, str(image)]
        return self._add(Server(socket, command))

    def nbdkit(self, *arguments: str, export: str = "") -> Server:
        socket = self.directory / f"n{len(self._all)}.sock"
        return self._add(Server(socket, ["nbdkit", "-f", "-U", str(socket), *arguments]))

    def _add(self, server: Server) -> Server:
        self._all.append(server)
        return server

    def stop(self) -> None:
        for server in self._all:
            server.stop()


def create_qcow2(path: Path, size: int, backing: Path | None = None) -> Path:
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2",
         *(("-b", str(backing), "-F", "qcow2") if backing else ()), str(path), str(size)],
        check=True)
    return path


def content(path: Path, fmt: str, size: int, out: Path) -> bytes:
    """What a guest would read."""
    subprocess.run(["qemu-img", "convert", "-f", fmt, "-O", "raw", str(path), str(out)],
                   check=True)
    data = out.read_bytes()
    out.unlink()
    return data[:size]
