"""``hotspare doctor``: looks at what Hotspare needs of this machine, and says how to mend it.

It changes nothing, needs no running server, and outlives whatever it looks at: what may hang is
looked at with a time-out, and a check that fails by itself is a finding like the others.
"""

from __future__ import annotations

import ctypes
import email.utils
import importlib
import json
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from cryptography import x509

from ..domain.errors import HotspareError, Refused
from ..domain.messages import Text, text_of
from ..store import Store
from ..store.engine import parse_url, sqlite_url
from ..store.migrate import is_known, revision
from ..worker import configuration, enrolment
from .process import only_one

State = Literal["ok", "warning", "fault"]
Role = Literal["all", "server", "worker"]

_MIB: Final = 1 << 20
_SPACE: Final = {"fault": 256 * _MIB, "warning": 2048 * _MIB}
_DAY_S: Final = 86400.0
_LIBVIRT: Final = 8_002_000
_CHECK_S: Final = 60.0          # a mount, a name server or a database may hang for ever
_PROBE_S: Final = 3.0
_ANSWER_S: Final = 5.0
_OFFSET_S: Final = {"fault": 60.0, "warning": 2.0}
_FILES: Final = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """``code`` has its text and remedy in domain.messages.doctor."""

    check: str
    state: State
    code: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> Text:
        return text_of(self.code, self.fields)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked at. ``database``: None is SQLite in the state directory."""

    state_dir: Path
    database: str | None = None
    temp_dir: Path | None = None
    listen: str = "127.0.0.1:8443"
    role: Role = "all"


def role_of(state_dir: Path, database: str | None) -> Role:
    """What this machine seems to be: an enrolled DR machine, a control server alone, or both in
    one. Before the first start nothing is known, and all is looked at."""
    if (state_dir / "worker.json").exists():
        return "worker"
    alone = (state_dir / "hotspare.db").exists() and not (state_dir / "machine").exists()
    return "server" if database is not None or alone else "all"


def examine(machine: Machine) -> Iterator[Finding]:
    """The findings, one check after the other."""
    for check, roles, look in _CHECKS:
        if machine.role in roles:
            yield from _looked(check, look, machine)


def _looked(check: str, look: Callable[[Machine], _Found], machine: Machine) -> list[Finding]:
    """What one check finds within its time; a thread that hangs is left behind."""
    found: list[Finding] = []

    def work() -> None:
        try:
            for state, code, fields in look(machine):
                found.append(Finding(check, state, code, fields))
        except HotspareError as error:
            found.append(Finding(check, "fault", error.code, error.fields))
        except Exception as error:
            found.append(Finding(check, "fault", "doctor.failed",
                                 {"error": f"{type(error).__name__}: {error}"}))

    thread = threading.Thread(target=work, name=check, daemon=True)
    thread.start()
    thread.join(_CHECK_S)
    if not thread.is_alive():
        return found
    return [*found, Finding(check, "fault", "doctor.hangs", {"seconds": _CHECK_S})]


_Found = Iterator[tuple[State, str, dict[str, Any]]]


# --- packages ----------------------------------------------------------------------------------


def _packages(_machine: Machine) -> _Found:
    for module, package in (("libvirt", "python3-libvirt"), ("nbd", "python3-libnbd")):
        try:
            loaded = importlib.import_module(module)
        except ImportError:
            yield "fault", "doctor.module-missing", {"module": module, "package": package}
            continue
        if module == "libvirt" and loaded.getVersion() < _LIBVIRT:
            yield "fault", "doctor.libvirt-old", {"version": loaded.getVersion()}
        else:
            yield "ok", "doctor.module", {"module": module}
    for program, package, need in (("ssh", "openssh-client", "fault"),
                                   ("qemu-img", "qemu-utils", "warning"),
                                   ("nbdkit", "nbdkit", "warning")):
        if shutil.which(program) is None:
            state: State = "fault" if need == "fault" else "warning"
            yield state, f"doctor.{program}-missing", {"package": package}
        else:
            yield "ok", "doctor.program", {"program": program}


def _zones(_machine: Machine) -> _Found:
    try:
        zoneinfo.ZoneInfo("Asia/Shanghai")
        zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        yield "fault", "doctor.no-zones", {}
    else:
        yield "ok", "doctor.zones", {"count": len(zoneinfo.available_timezones())}


# --- rights and space --------------------------------------------------------------------------


def _rights(machine: Machine) -> _Found:
    folder = machine.state_dir
    if not folder.exists():
        yield "warning", "doctor.no-state", {"path": str(folder)}
        return
    found = folder.stat()
    if found.st_uid != os.geteuid():
        yield "fault", "doctor.not-owner", {"path": str(folder), "owner": found.st_uid,
                                            "user": os.geteuid()}
        return
    for path in (folder, *(folder / name for name in (
            "secret.key", "hotspare.db", "worker.json", "local-token", "tls/ca-key.pem",
            "tls/server-key.pem"))):
        if path.exists() and path.stat().st_mode & 0o077:
            yield "fault", "doctor.readable", {"path": str(path)}
    if machine.role != "worker" and (folder / "hotspare.db").exists() and not (
            folder / "secret.key").exists():
        yield "fault", "server.key-missing", {"path": str(folder / "secret.key")}
    yield "ok", "doctor.rights", {"path": str(folder)}


def _space(machine: Machine) -> _Found:
    folders = [machine.state_dir]
    if machine.role != "server":
        with suppress(HotspareError):       # a bad file is told by its own check
            folders.append(machine.temp_dir or configuration.read(None).temp_dir
                           or machine.state_dir / "temp")
    for folder in folders:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        found = os.statvfs(there)
        free = found.f_bavail * found.f_frsize
        state = _below(free, _SPACE)
        fields = {"path": str(folder), "free_mib": free // _MIB}
        if found.f_files and found.f_favail < 1000:
            yield "fault", "doctor.no-inodes", fields
        elif not os.access(there, os.W_OK):
            yield "fault", "doctor.not-writable", fields
        else:
            yield state, "doctor.space" if state == "ok" else "doctor.space-low", fields


def _files(_machine: Machine) -> _Found:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= _FILES
    yield ("ok", "doctor.files", {"limit": soft}) if enough else (
        "warning", "doctor.files-few", {"limit": soft, "wanted": _FILES})


# --- control server ----------------------------------------------------------------------------


def _database(machine: Machine) -> _Found:
    path = machine.state_dir / "hotspare.db"
    url = sqlite_url(path) if machine.database is None else machine.database
    parsed = parse_url(url)
    if parsed.drivername == "sqlite" and not Path(parsed.database or "").exists():
        yield "ok", "doctor.no-database", {"path": parsed.database}
        return
    name = parsed.render_as_string(hide_password=True)
    try:
        yield from _database_at(url, name)
    except sa.exc.DatabaseError as error:
        yield "fault", "doctor.database-damaged", {"database": name, "detail": str(error.orig)}


def _database_at(url: str, name: str) -> _Found:
    with closing(Store(url)) as store, store.read() as conn:
        if store.engine.dialect.name == "sqlite":
            damage = conn.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if damage != "ok":
                yield "fault", "doctor.database-damaged", {"database": name, "detail": damage}
                return
        else:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                value = conn.execute(sa.text("SELECT current_setting(:n)"),
                                     {"n": setting}).scalar()
                if value == "off":
                    yield "fault", "doctor.not-durable", {"setting": setting}
            encoding = conn.execute(sa.text("SELECT current_setting('server_encoding')")).scalar()
            if encoding != "UTF8":
                yield "fault", "doctor.encoding", {"encoding": encoding}
        found = revision(conn)
        if not is_known(found):
            yield "fault", "store.newer", {"revision": found}
        else:
            yield "ok", "doctor.database", {"database": name, "revision": found or "-"}


def _certificates(machine: Machine) -> _Found:
    for name, days in (("ca.pem", 180), ("server.pem", 14)):
        path = machine.state_dir / "tls" / name
        if not path.exists():
            yield "ok", "doctor.no-certificate", {"path": str(path)}
            continue
        ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        left = (ends.timestamp() - time.time()) / _DAY_S
        fields = {"path": str(path), "days": int(left)}
        what = "ca" if name == "ca.pem" else "certificate"
        if left < 0:
            yield "fault", f"doctor.{what}-ended", fields
        elif left < days:
            yield "warning", f"doctor.{what}-ends", fields
        else:
            yield "ok", "doctor.certificate", fields


def _port(machine: Machine) -> _Found:
    if _runs(machine.state_dir):
        ready = json.loads((machine.state_dir / "server.json").read_text())
        try:
            _ask(ready["url"], Path(ready["ca"]).read_text())
        except (OSError, ValueError) as error:
            yield "fault", "doctor.no-answer", {"url": ready["url"], "error": str(error)}
        else:
            yield "ok", "doctor.answers", {"url": ready["url"]}
        return
    host, _, port = machine.listen.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise Refused("server.address", listen=machine.listen, why="HOST:PORT is expected")
    fields = {"listen": machine.listen}
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port),
                                                      type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        yield "fault", "doctor.port-taken", fields | {
            "error": error.strerror or str(error)}
    else:
        yield "ok", "doctor.port-free", fields


def _runs(state_dir: Path) -> bool:
    if not (state_dir / "lock").exists():
        return False
    try:
        with only_one(state_dir):
            return False
    except HotspareError:
        return (state_dir / "server.json").exists()


# --- DR machine --------------------------------------------------------------------------------


def _settings(_machine: Machine) -> _Found:
    configuration.read(None)
    yield "ok", "doctor.settings", {"path": str(configuration.DEFAULT)}


def _server(machine: Machine) -> _Found:
    """The control server of an enrolled machine, and how far the two clocks are apart."""
    known = enrolment.load(machine.state_dir)
    if known is None:
        yield "fault", "enrolment.missing", {"directory": str(machine.state_dir)}
        return
    try:
        date = _ask(known.server, known.ca)
    except (OSError, ValueError) as error:
        yield "fault", "doctor.server-unreachable", {"server": known.server, "error": str(error)}
        return
    yield "ok", "doctor.answers", {"url": known.server}
    if date is not None:
        # The header has whole seconds.
        offset = max(abs(time.time() - date) - 1.0, 0.0)
        state = _above(offset, _OFFSET_S)
        yield state, "doctor.offset" if state == "ok" else "doctor.offset-large", {
            "seconds": round(offset)}


def _ask(url: str, ca: str) -> float | None:
    """The server's time. Raises OSError (also of TLS) when it does not answer."""
    context = ssl.create_default_context(cadata=ca)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                         urllib.request.HTTPSHandler(context=context))
    try:
        answer = opener.open(f"{url}/api/v1/ca", timeout=_ANSWER_S)
        headers = answer.headers
        answer.close()
    except urllib.error.HTTPError as error:     # it answers, whatever it says
        headers = error.headers
    date = headers.get("Date")
    return None if date is None else email.utils.parsedate_to_datetime(date).timestamp()


def _clock(_machine: Machine) -> _Found:
    """The kernel knows whether something keeps its clock right."""
    libc = ctypes.CDLL(None, use_errno=True)
    # struct timex begins with ``modes``, 0: nothing is set; 5 is TIME_ERROR, not synchronised.
    state = libc.adjtimex(ctypes.create_string_buffer(512))
    if state == 5:
        yield "warning", "doctor.clock-alone", {}
    elif state < 0:
        yield "warning", "doctor.clock-unknown", {}
    else:
        yield "ok", "doctor.clock", {}


def _kvm(_machine: Machine) -> _Found:
    """Never by /dev/kvm being there, and never in this process: it may hang."""
    if not Path("/dev/kvm").exists():
        yield "ok", "doctor.no-kvm", {}
        return
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield "warning", "doctor.kvm-rights", {}
        return
    process = subprocess.Popen([sys.executable, "-m", "hotspare.server.kvm_probe"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, error = process.communicate(timeout=_PROBE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            # Stuck in the kernel it cannot be ended: leave it rather than hang with it.
            process.returncode = -9
        yield "warning", "doctor.kvm-hangs", {"seconds": _PROBE_S}
        return
    if out.strip() == "ok":
        yield "ok", "doctor.kvm", {}
    else:
        yield "warning", "doctor.kvm-unusable", {"error": (error.strip() or "-").splitlines()[-1]}


def _below(value: float, limits: dict[str, float] | dict[str, int]) -> State:
    return "fault" if value < limits["fault"] else "warning" if value < limits["warning"] else "ok"


def _above(value: float, limits: dict[str, float]) -> State:
    return "fault" if value > limits["fault"] else "warning" if value > limits["warning"] else "ok"


_ALL: Final = ("all", "server", "worker")
_CHECKS: Final[tuple[tuple[str, tuple[str, ...], Callable[[Machine], _Found]], ...]] = (
    ("packages", ("all", "worker"), _packages),
    ("time zones", _ALL, _zones),
    ("rights", _ALL, _rights),
    ("space", _ALL, _space),
    ("open files", _ALL, _files),
    ("database", ("all", "server"), _database),
    ("certificates", ("all", "server"), _certificates),
    ("port", ("all", "server"), _port),
    ("settings", ("all", "worker"), _settings),
    ("server", ("worker",), _server),
    ("clock", _ALL, _clock),
    ("KVM", ("all", "worker"), _kvm),
)
