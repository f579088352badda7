"""One live connection to one libvirt daemon, and the way to its QEMUs' sockets."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import libvirt
import libvirt_qemu

from ...domain.errors import GiveUp, Refused
from ..port import PlatformAccess
from .liberrors import mapped, ssh_fault, translate
from .sshlink import SshLink

__all__ = ["Connection", "mapped", "socket_path", "translate"]

SOCKET_PATH_MAX = 107
"""Bytes of a unix socket's path without the closing zero (sun_path is 108)."""

_KEEPALIVE_S, _KEEPALIVE_COUNT = 5, 4   # a silent daemon is given up after 25 s
_SYSTEM_SOCKET_DIR = "/var/lib/libvirt/qemu"

_loop_lock = threading.Lock()
_loop_pid = 0


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def start_event_loop() -> None:
    """libvirt's event loop in a daemon thread, once per process, before the first connection.

    Without it keepalive does not work and a call to a dead host blocks for ever."""
    global _loop_pid  # noqa: PLW0603 - the loop belongs to the process, as libvirt's own state does
    with _loop_lock:
        if _loop_pid == os.getpid():
            return
        # the default handler prints every error to stderr, expected ones included
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()
        _loop_pid = os.getpid()


def socket_path(directory: str, name: str) -> str:
    """``directory/name``. Raises GiveUp ``platform.socket-path`` when QEMU could not bind it."""
    path = str(PurePosixPath(directory) / name)
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise GiveUp("platform.socket-path", path=path, limit=SOCKET_PATH_MAX)
    return path


class Connection:
    """A libvirt connection that opens when first used and again when it has died.

    Options of ``access``: ``socket_dir`` (directory on the host for QEMU's sockets), and for
    ``qemu+ssh`` ``keyfile`` and ``known_hosts`` (paths on this machine). ``access.secret`` is a
    private ssh key. Objects got from ``conn`` (domains, volumes) die with it: look them up anew
    after a Reconnect.
    """

    def __init__(self, access: PlatformAccess) -> None:
        """Raises Refused ``platform.scheme`` or ``platform.uri``; does not connect."""
        self.access = access
        self._lock = threading.RLock()
        self._conn: Any = None
        uri = urlsplit(access.uri)
        self._query = {k: v[-1] for k, v in parse_qs(uri.query).items()}
        # libvirt's other parameters (command=, netcat=, no_verify=) would run programs of the
        # URI's author on this machine, or take the host's identity unseen
        if uri.path not in ("/system", "/session") or set(self._query) - {"socket", "proxy"}:
            raise Refused("platform.uri", uri=access.uri)
        self.session = uri.path == "/session"
        self.ssh: SshLink | None = None
        if uri.scheme == "qemu+ssh":
            self.ssh = SshLink(uri, access.options, access.secret)
        elif uri.scheme not in ("qemu", "qemu+unix") or uri.netloc:
            # qemu://host/ is TLS; tcp carries everything in clear, disk contents included
            raise Refused("platform.scheme", scheme=uri.scheme, uri=access.uri)
        self._uri = uri

    # --- libvirt -------------------------------------------------------------------------------

    @property
    def conn(self) -> Any:
        """The live ``virConnect``. Raises Reconnect ``platform.unreachable``, GiveUp
        ``platform.auth``, ``platform.denied``, ``ssh.host-key`` or ``ssh.key``."""
        with self._lock:
            if self._conn is not None:
                with contextlib.suppress(libvirt.libvirtError):
                    if self._conn.isAlive():
                        return self._conn
                self._drop()
            start_event_loop()
            with mapped(uri=self.access.uri):
                conn = self._open()
                with contextlib.suppress(libvirt.libvirtError):  # an old daemon may lack it
                    conn.setKeepAlive(_KEEPALIVE_S, _KEEPALIVE_COUNT)
            self._conn = conn
            return conn

    def _open(self) -> Any:
        try:
            return libvirt.open(self._libvirt_uri())
        except libvirt.libvirtError as error:
            # libvirt reads 1024 bytes of what ssh says and fails with EOVERFLOW when there is more
            # (virnetsocket.c), as in the banner of a changed host key: then ssh is asked by us
            if self.ssh is not None and os.strerror(errno.EOVERFLOW) in str(error):
                fault = ssh_fault(self.ssh.complaint(), uri=self.access.uri)
                if fault is not None:
                    raise fault from error
            raise

    def close(self) -> None:
        """End the connection and all that was started for it; twice is fine."""
        with self._lock:
            self._drop()
            if self.ssh is not None:
                self.ssh.close()

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(libvirt.libvirtError):
                conn.close()

    def _libvirt_uri(self) -> str:
        query = dict(self._query)
        if self.ssh is not None:
            query["command"] = str(self.ssh.program())
            query["no_tty"] = "1"
        words = "&".join(f"{k}={quote(v, safe='/')}" for k, v in query.items())
        return self._uri._replace(query=words).geturl()

    # --- QEMU's sockets ------------------------------------------------------------------------

    @property
    def remote(self) -> bool:
        """Whether the host is reached by ssh."""
        return self.ssh is not None

    @property
    def socket_dir(self) -> str:
        """Directory on the host where its QEMUs can make unix sockets.

        Raises GiveUp ``platform.socket-dir`` when it is not given and cannot be told."""
        given = self.access.options.get("socket_dir")
        if given:
            return given
        if not self.session:
            return _SYSTEM_SOCKET_DIR
        if self._query.get("socket"):
            return str(PurePosixPath(self._query["socket"]).parent)
        if self.remote or not os.environ.get("XDG_RUNTIME_DIR"):
            raise GiveUp("platform.socket-dir", uri=self.access.uri)
        return str(PurePosixPath(os.environ["XDG_RUNTIME_DIR"]) / "libvirt")

    @contextlib.contextmanager
    def forward(self, remote_socket: str) -> Iterator[str]:
        """The path of a local socket that leads to ``remote_socket`` on the host.

        Raises what :meth:`SshLink.forward` raises."""
        if self.ssh is None:
            yield remote_socket
            return
        with self.ssh.forward(remote_socket) as local:
            yield local

    def qmp(self, domain: Any, command: str, /, **arguments: Any) -> Any:
        """Run a QMP command on a domain of ours (never on a user's: it taints the domain).

        Underscores in argument names become hyphens. Raises GiveUp ``qmp.failed`` with QEMU's
        words, or what :func:`translate` says."""
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        with mapped(command=command):
            answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps(request), 0))
        if "error" in answer:
            raise GiveUp("qmp.failed", command=command, reason=answer["error"].get("desc", ""),
                         kind=answer["error"].get("class", ""))
        return answer["return"]
