"""Everything that ssh does for a connection: a program for libvirt, forwards for NBD, an agent.

A private key that came as a secret lives in an ssh-agent of our own, which got it through its
standard input: it is never in an argument list, the environment or a file. Every process started
here ends when we end, also by SIGKILL (:func:`spawn_watched`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult

from ...domain.errors import GiveUp, Reconnect, Refused
from .liberrors import ssh_fault

CONNECT_TIMEOUT_S = 15
_DIR_PREFIX = "hs-link-"
_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:\[\]-]*\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]*\Z")
# ssh expands % and ${} in the values of its options and splits them at quotes
_PLAIN_PATH = re.compile(r"/[^\"'%$\\\n]+\Z")

# Runs "$@" until it ends or our end of the pipe at fd 0 closes, whichever is first. PDEATHSIG would
# not do: it fires when the *thread* that forked ends, and it is set too late for a parent that dies
# at once. Background jobs of a non-interactive shell read /dev/null, hence fd 3.
_WATCH = """\
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
{ read -r _ <&3; kill "$child"; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$child"; status=$?
kill "$watch" 2>/dev/null
exit $status
"""


def spawn_watched(command: Sequence[str], env: Mapping[str, str] | None = None,
                  ) -> subprocess.Popen[bytes]:
    """Start a program that ends with us. Close its ``stdin`` to end it; ``stderr`` is a pipe."""
    return subprocess.Popen(["/bin/sh", "-c", _WATCH, "sh", *command], stdin=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env,
                            start_new_session=True)


def end_watched(process: subprocess.Popen[bytes]) -> None:
    """End what :func:`spawn_watched` started; twice is fine."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def private_dir() -> Path:
    """A new directory for us alone, with a path short enough for sockets (below 108 bytes).

    Directories that killed processes of ours left are removed on the way."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > 40:
        base = Path("/tmp")  # noqa: S108 - mkdtemp makes it 0700 and unguessable
    for old in base.glob(f"{_DIR_PREFIX}*"):
        owner = old.name.removeprefix(_DIR_PREFIX).split("-")[0]
        with contextlib.suppress(OSError):
            if (owner.isdigit() and old.lstat().st_uid == os.geteuid()
                    and not Path(f"/proc/{owner}").exists()):
                shutil.rmtree(old)
    return Path(tempfile.mkdtemp(prefix=f"{_DIR_PREFIX}{os.getpid()}-", dir=base))


class SshLink:
    """One remote host by ssh. Nothing runs until it is needed."""

    def __init__(self, uri: SplitResult, options: Mapping[str, str], secret: str | None) -> None:
        host, user = uri.hostname or "", uri.username or ""
        if not _HOST.match(host) or (user and not _USER.match(user)):
            raise Refused("platform.uri", uri=uri.geturl())
        self.host, self.user, self.port = host, user, uri.port
        self._options, self._secret = options, secret
        self._dir: Path | None = None
        self._agent: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()  # exports of one connection are opened by several threads

    # --- what libvirt is given -----------------------------------------------------------------

    def program(self) -> Path:
        """An executable that libvirt runs in place of ssh, with our options in front."""
        path = self._private() / "ssh"
        if not path.exists():
            words = " ".join(shlex.quote(w) for w in ["ssh", *self._hardening()])
            path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            path.chmod(stat.S_IRWXU)
        return path

    def complaint(self) -> str:
        """What ssh says when it connects, and does nothing there."""
        try:
            done = subprocess.run([self.program(), "-T", *self._address(), "true"], check=False,
                                  stdin=subprocess.DEVNULL, capture_output=True, env=self._env(),
                                  timeout=CONNECT_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            return ""
        return done.stderr.decode(errors="replace")

    # --- what NBD is given ---------------------------------------------------------------------

    @contextlib.contextmanager
    def forward(self, remote: str) -> Iterator[str]:
        """A local socket that leads to the unix socket ``remote``, by an ssh of its own.

        Raises Reconnect ``platform.unreachable``, GiveUp ``platform.auth`` or ``ssh.host-key``.
        """
        local = self._private() / f"f{next(self._numbers)}"
        process = spawn_watched([
            "ssh", *self._hardening(), "-N", "-T", "-o", "ExitOnForwardFailure=yes",
            # one fast core does 1.5 GB/s with AES-GCM in hardware, half of that with ChaCha20
            "-o", "Ciphers=^aes128-gcm@openssh.com", "-o", "Compression=no",
            "-L", f"{local}:{remote}", *self._address()], self._env())
        try:
            self._await_socket(process, local)
            yield str(local)
        finally:
            end_watched(process)
            local.unlink(missing_ok=True)

    def close(self) -> None:
        """End the agent and remove the private directory; twice is fine."""
        if self._agent is not None:
            end_watched(self._agent)
            self._agent = None
        if self._dir is not None:
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None

    # --- inside --------------------------------------------------------------------------------

    def _await_socket(self, process: subprocess.Popen[bytes], local: Path) -> None:
        end = time.monotonic() + CONNECT_TIMEOUT_S + 5
        while not local.exists():
            if process.poll() is not None:
                text = process.stderr.read().decode(errors="replace") if process.stderr else ""
                raise ssh_fault(text, host=self.host) or Reconnect(
                    "platform.unreachable", host=self.host, reason=text.strip())
            if time.monotonic() > end:
                raise Reconnect("platform.unreachable", host=self.host, reason="ssh: time-out")
            time.sleep(0.02)

    def _address(self) -> list[str]:
        words = ["-p", str(self.port)] if self.port else []
        return [*words, *(["-l", self.user] if self.user else []), "--", self.host]

    def _hardening(self) -> list[str]:
        settings = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ControlMaster=no",
                    "ControlPath=none", "ForwardAgent=no", "ForwardX11=no",
                    "PermitLocalCommand=no", "UpdateHostKeys=no",
                    f"ConnectTimeout={CONNECT_TIMEOUT_S}", "ServerAliveInterval=15",
                    "ServerAliveCountMax=3"]
        known = self._known_hosts()
        if known:
            settings += [f'UserKnownHostsFile="{known}"', "GlobalKnownHostsFile=none"]
        if self._secret is not None:
            with self._lock:
                settings += [f'IdentityAgent="{self._start_agent()}"', "IdentityFile=none"]
        elif self._options.get("keyfile"):
            settings += [f'IdentityFile="{self._path("keyfile")}"', "IdentitiesOnly=yes"]
        # the account's own ssh configuration could name proxies and commands: it plays no part
        return ["-F", "none", *(word for s in settings for word in ("-o", s))]

    def _path(self, option: str) -> str:
        path = self._options[option]
        if not _PLAIN_PATH.match(path):
            raise Refused("platform.option", option=option, value=path)
        return path

    def _known_hosts(self) -> str:
        """Option ``known_hosts``: a file's path, or the lines themselves."""
        value = self._options.get("known_hosts", "")
        if not value or value.startswith("/"):
            return value and self._path("known_hosts")
        path = self._private() / "known_hosts"
        if not path.exists():
            path.write_text(value.strip() + "\n")
        return str(path)

    def _private(self) -> Path:
        with self._lock:
            if self._dir is None:
                self._dir = private_dir()
            return self._dir

    def _env(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if k not in ("SSH_ASKPASS", "DISPLAY")}

    def _start_agent(self) -> Path:
        """An ssh-agent of our own with the secret key in it. Raises GiveUp ``ssh.key``."""
        socket = self._private() / "agent"
        if self._agent is not None and self._agent.poll() is None:
            return socket
        socket.unlink(missing_ok=True)
        self._agent = spawn_watched(["ssh-agent", "-D", "-a", str(socket)])
        end = time.monotonic() + 5
        while not socket.exists():
            if self._agent.poll() is not None or time.monotonic() > end:
                raise GiveUp("ssh.agent")
            time.sleep(0.01)
        key = (self._secret or "").replace("\r\n", "\n").strip() + "\n"
        # a session without a terminal: a key with a passphrase fails instead of asking
        added = subprocess.run(["ssh-add", "-q", "-"], input=key.encode(), capture_output=True,
                               env={**self._env(), "SSH_AUTH_SOCK": str(socket),
                                    "SSH_ASKPASS_REQUIRE": "never"},
                               start_new_session=True, timeout=20, check=False)
        if added.returncode:
            raise GiveUp("ssh.key", reason=added.stderr.decode(errors="replace").strip())
        return socket
