"""A real ssh server for tests, without root and without touching the machine's own."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from . import procs
from .errors import TestbedError
from .host import SessionHost
from .tools import SYSTEM_PATH, need, run
from .users import Identity

LISTEN = "127.0.0.1"
_NETCAT = """\
import os, select, socket, sys
if "-U" not in sys.argv:
    sys.exit("usage: nc -U SOCKET")
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[-1])
open_ends = [0, peer.fileno()]
while peer.fileno() in open_ends:
    for source in select.select(open_ends, [], [])[0]:
        data = os.read(source, 65536)
        if not data:
            open_ends.remove(source)
            if source == 0:
                peer.shutdown(socket.SHUT_WR)
        while data:
            data = data[os.write(1 if source else peer.fileno(), data):]
"""


class SshServer:
    """One sshd on 127.0.0.1 that lets in the lab's account with the lab's key, and nobody else.

    It runs as that account itself: an sshd without root can log in only its own user, needs no
    privilege separation directory, PAM or shadow password, and so works on any machine.
    """

    def __init__(
        self, base: Path, identity: Identity, environment: Mapping[str, str] | None = None
    ) -> None:
        """Prepare a server; `environment` is what its sessions get, such as one host's own."""
        self.base = base
        self._extra = dict(environment or {})
        self.identity = identity
        self.user = identity.name
        self.keyfile = base / "id_ed25519"
        """The client's private key; readable by whoever runs the tests."""
        self.known_hosts = base / "known_hosts"
        self.wrapper = base / "ssh"
        """An ssh that knows this server's host key and ignores the caller's configuration."""
        self.log = base / "sshd.log"
        self._pid_file = base / "sshd.pid"
        self._port_file = base / "port"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._port_file.read_text("ascii"))

    @property
    def pid(self) -> int | None:
        """The id of the running server, None when it is down."""
        return procs.read_pid(self._pid_file, "sshd")

    def start(self, timeout: float = 20) -> SshServer:
        """Start the server, on the port it had before if any, and wait until it answers."""
        if self.pid is not None:
            return self
        if not self.keyfile.exists():
            self._make_keys()
        for _attempt in range(5):  # the port may be taken between choosing and binding it
            port = self.port if self._port_file.exists() else _free_port()
            if self._launch(port, timeout):
                self._port_file.write_text(str(port), "ascii")
                key = (self.base / "host/key.pub").read_text("ascii").split()
                line = f"[{LISTEN}]:{port} {key[0]} {key[1]}\n"
                self.known_hosts.write_text(line, "ascii")
                return self
            self._port_file.unlink(missing_ok=True)
        raise TestbedError("sshd did not start.", f"Its log is {self.log}: {self._tail()}")

    def stop(self) -> None:
        """End the server and the sessions it serves."""
        sessions = self.session_pids()
        pid = self.pid
        if pid is not None:
            procs.end(pid)
        for session in sessions:
            procs.end(session, grace=1)

    def session_pids(self) -> list[int]:
        """Return the processes of open sessions, so that a test can cut a connection."""
        pid = self.pid
        return [] if pid is None else procs.children(pid)

    def uri(self, host: SessionHost, **parameters: str) -> str:
        """Return the qemu+ssh URI of a host, with this lab's key and known hosts.

        libvirt's ssh transport runs the ssh program and honours keyfile, but neither known_hosts
        nor known_hosts_verify (those are for libssh and libssh2). `command` names a wrapper that
        sets them. Extra parameters are added or replace these.
        """
        values = {
            **self._socket(host),
            "keyfile": str(self.keyfile),
            "command": str(self.wrapper),
            "no_tty": "1",
            **parameters,
        }
        query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in values.items())
        return f"qemu+ssh://{self.user}@{LISTEN}:{self.port}/session?{query}"

    def libssh_uri(self, host: SessionHost, **parameters: str) -> str:
        """Return the URI of a host by libvirt's built-in ssh client, which needs no ssh program."""
        values = {
            **self._socket(host),
            "keyfile": str(self.keyfile),
            "known_hosts": str(self.known_hosts),
            "known_hosts_verify": "normal",
            "sshauth": "privkey",
            **parameters,
        }
        query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in values.items())
        return f"qemu+libssh://{self.user}@{LISTEN}:{self.port}/session?{query}"

    def client(self, *options: str) -> list[str]:
        """Return an ssh command line to this server, to which a remote command may be appended.

        It ignores the calling user's own ssh configuration and agent.
        """
        return [
            *self._ssh_words(), "-i", str(self.keyfile), "-p", str(self.port), *options,
            f"{self.user}@{LISTEN}",
        ]  # fmt: skip

    def _socket(self, host: SessionHost) -> dict[str, str]:
        """Name the host's socket, unless this server's sessions find that host by themselves."""
        if self._extra.get("XDG_RUNTIME_DIR") == host.environment()["XDG_RUNTIME_DIR"]:
            return {}
        return {"socket": str(host.socket)}

    def _environment(self) -> dict[str, str]:
        """Return the environment of sessions. Naming a socket makes libvirt run `nc -U` there."""
        path = SYSTEM_PATH
        if shutil.which("nc", path=SYSTEM_PATH) is None:
            path = f"{self.base}/host/bin:{path}"
        return {"LC_ALL": "C", **self._extra, "PATH": path}

    def _make_netcat(self) -> None:
        """Write a stand-in for netcat, which is often not installed: `nc -U SOCKET` and no more."""
        python = shutil.which("python3", path=SYSTEM_PATH)
        if python is None:
            return
        directory = self.base / "host/bin"
        directory.mkdir(exist_ok=True)
        program = directory / "nc"
        program.write_text(f"#!{python}\n{_NETCAT}", "ascii")
        program.chmod(0o755)

    def _ssh_words(self) -> list[str]:
        return [
            need("ssh"), "-F", "none", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
            "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.known_hosts}",
            "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
        ]  # fmt: skip

    def _make_keys(self) -> None:
        self.base.mkdir(mode=0o755, exist_ok=True)
        host = self.base / "host"
        host.mkdir(mode=0o700, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab host", "-f", host / "key"])
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab client",
             "-f", self.keyfile])  # fmt: skip
        self._make_netcat()
        shutil.copyfile(f"{self.keyfile}.pub", host / "authorized_keys")
        # the wrapper reads the key as whoever runs the tests; ssh refuses one that others may read
        self.wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(self._ssh_words())} "$@"\n', "utf-8")
        self.wrapper.chmod(0o755)
        self.identity.own(self.base, host, *host.iterdir())

    def _launch(self, port: int, timeout: float) -> bool:
        config = self.base / "host/sshd_config"
        config.write_text(
            f"ListenAddress {LISTEN}\nPort {port}\n"
            f"HostKey {self.base}/host/key\nAuthorizedKeysFile {self.base}/host/authorized_keys\n"
            f"PidFile {self._pid_file}\nAllowUsers {self.user}\n"
            "AuthenticationMethods publickey\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nUsePAM no\n"
            # its directory is below /tmp, which anyone may write to
            "StrictModes no\n"
            "AllowTcpForwarding yes\nAllowStreamLocalForwarding yes\nX11Forwarding no\n"
            "PrintMotd no\nMaxStartups 100\nMaxSessions 100\nUseDNS no\n"
            f"SetEnv {' '.join(f'{key}={value}' for key, value in self._environment().items())}\n",
            "ascii",
        )
        self.identity.own(config)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*self.identity.prefix(kvm=False), need("sshd"), "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env={"PATH": SYSTEM_PATH, "LC_ALL": "C"},
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + timeout
        while time.monotonic() < end and process.poll() is None:
            try:
                with socket.create_connection((LISTEN, port), timeout=1) as probe:
                    if probe.recv(4) == b"SSH-" and process.poll() is None:
                        process.returncode = 0  # from here on the pid file tells the server
                        return True
            except OSError:
                time.sleep(0.02)
        if process.poll() is None:
            procs.end(process.pid)
        return False

    def _tail(self) -> str:
        try:
            return " ".join(self.log.read_text("utf-8", "replace").strip().splitlines()[-3:])
        except OSError:
            return f"no log, process {os.getpid()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LISTEN, 0))
        return int(probe.getsockname()[1])
