"""``hotspare doctor``: each fault is found, told with its remedy, and nothing hangs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.messages import catalogue
from hotspare.domain.messages import doctor as texts
from hotspare.server import doctor, tls
from hotspare.server.doctor import Finding, Machine, examine
from hotspare.store import Store
from unit.service_rig import rig, served, spawn_up


def found(machine: Machine, check: str) -> list[Finding]:
    return [f for f in examine(machine) if f.check == check]


def codes(machine: Machine, check: str) -> list[tuple[str, str]]:
    return [(f.state, f.code) for f in found(machine, check)]


@pytest.fixture(autouse=True)
def _no_kvm(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Three seconds a look where it hangs; one test looks."""
    if "kvm" not in request.node.name:
        monkeypatch.setattr(doctor, "_kvm", lambda _: iter(()))
        monkeypatch.setattr(doctor, "_CHECKS", tuple(
            c for c in doctor._CHECKS if c[0] != "KVM"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(0o700)
    with rig(folder):
        tls.ensure(folder / "tls", ["127.0.0.1"])
    return folder


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_sound_machine_has_no_fault(state: Path) -> None:
    machine = Machine(state, listen=f"127.0.0.1:{free_port()}")
    faults = [(f.check, f.text.message) for f in examine(machine) if f.state == "fault"]
    assert faults == []
    assert {f.check for f in examine(machine)} == {
        "packages", "time zones", "rights", "space", "open files", "database", "certificates",
        "port", "settings", "clock"}


def test_packages(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(state)
    assert {s for s, _ in codes(machine, "packages")} == {"ok"}
    real = doctor.importlib.import_module

    def without_libvirt(name: str) -> Any:
        if name == "libvirt":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", without_libvirt)
    monkeypatch.setenv("PATH", str(state))          # neither ssh nor qemu-img nor nbdkit
    missing = {f.code: f for f in found(machine, "packages") if f.state != "ok"}
    assert {c: f.state for c, f in missing.items()} == {
        "doctor.module-missing": "fault", "doctor.ssh-missing": "fault",
        "doctor.qemu-img-missing": "warning", "doctor.nbdkit-missing": "warning"}
    assert "python3-libvirt" in missing["doctor.module-missing"].text.remedy
    assert "openssh-client" in missing["doctor.ssh-missing"].text.remedy
    monkeypatch.setattr(doctor.importlib, "import_module", real)
    monkeypatch.setattr("libvirt.getVersion", lambda: 7_000_000)
    assert ("fault", "doctor.libvirt-old") in codes(machine, "packages")


def test_what_a_machine_is_decides_what_is_looked_at(tmp_path: Path) -> None:
    """A control server alone needs no libvirt, a DR machine alone has no database."""
    folder = tmp_path / "state"
    assert doctor.role_of(folder, None) == "all"
    folder.mkdir(0o700)
    (folder / "hotspare.db").touch()
    assert doctor.role_of(folder, None) == "server"
    (folder / "machine").mkdir()                    # hotspare up has one
    assert doctor.role_of(folder, None) == "all"
    assert doctor.role_of(tmp_path, "postgresql://h/d") == "server"
    (tmp_path / "worker.json").touch()
    assert doctor.role_of(tmp_path, None) == "worker"

    def checks(role: Any) -> set[str]:
        machine = Machine(tmp_path / "none", role=role, listen=f"127.0.0.1:{free_port()}")
        return {f.check for f in examine(machine)}

    assert checks("server") == {"time zones", "rights", "space", "open files", "database",
                                "certificates", "port", "clock"}
    assert checks("worker") == {"packages", "time zones", "rights", "space", "open files",
                                "settings", "server", "clock"}


def test_a_check_that_hangs_is_a_finding_and_the_others_go_on(
        state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ever = threading.Event()
    monkeypatch.setattr(doctor, "_CHECK_S", 0.3)
    monkeypatch.setattr(doctor.os, "statvfs", lambda _: ever.wait())    # as on a dead NFS server
    began = time.monotonic()
    findings = [(f.check, f.state, f.code) for f in examine(Machine(state))]
    ever.set()
    assert ("space", "fault", "doctor.hangs") in findings
    assert findings[-1][0] == "clock"
    assert time.monotonic() - began < 10.0


def test_rights(state: Path) -> None:
    machine = Machine(state)
    assert codes(machine, "rights") == [("ok", "doctor.rights")]
    (state / "secret.key").chmod(0o644)
    assert ("fault", "doctor.readable") in codes(machine, "rights")
    (state / "secret.key").unlink()
    assert ("fault", "server.key-missing") in codes(machine, "rights")
    assert codes(Machine(state / "none"), "rights") == [("warning", "doctor.no-state")]


def test_space(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(state, temp_dir=tmp_path / "t")
    assert [f.fields["path"] for f in found(machine, "space")] == [
        str(state), str(tmp_path / "t")]
    monkeypatch.setitem(doctor._SPACE, "warning", 1 << 60)
    assert set(codes(machine, "space")) == {("warning", "doctor.space-low")}
    monkeypatch.setitem(doctor._SPACE, "fault", 1 << 60)
    assert set(codes(machine, "space")) == {("fault", "doctor.space-low")}


def test_a_damaged_database(state: Path) -> None:
    machine = Machine(state)
    assert codes(machine, "database") == [("ok", "doctor.database")]
    path = state / "hotspare.db"
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(512))
    [only] = found(machine, "database")
    assert only.state == "fault" and "restore" in only.text.remedy


def test_a_database_of_a_newer_version(state: Path) -> None:
    store = Store(f"sqlite:///{state / 'hotspare.db'}")
    with store.write() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    assert codes(Machine(state), "database") == [("fault", "store.newer")]


def test_postgresql_that_is_not_there_or_not_durable(state: Path, postgres: Any,
                                                     postgres_url: str) -> None:
    machine = Machine(state, postgres_url, role="server")
    assert codes(machine, "database") == [("ok", "doctor.database")]
    store = Store(postgres_url)
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(sa.text("ALTER ROLE hotspare SET synchronous_commit = off"))
    try:
        assert ("fault", "doctor.not-durable") in codes(machine, "database")
    finally:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(sa.text("ALTER ROLE hotspare RESET synchronous_commit"))
        store.close()
    postgres.stop()
    assert codes(machine, "database") == [("fault", "store.unavailable")]
    postgres.start()


def test_certificates_that_end(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(state)
    now = time.time()
    for days, expected in ((0, {("ok", "doctor.certificate")}),
                           (390, {("ok", "doctor.certificate"),
                                  ("warning", "doctor.certificate-ends")}),
                           (400, {("ok", "doctor.certificate"),
                                  ("fault", "doctor.certificate-ended")}),
                           (3600, {("warning", "doctor.ca-ends"),
                                   ("fault", "doctor.certificate-ended")})):
        monkeypatch.setattr(doctor.time, "time", lambda d=days: now + d * 86400.0)
        assert set(codes(machine, "certificates")) == expected, days


def test_a_port_that_is_taken(state: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        listen = f"127.0.0.1:{sock.getsockname()[1]}"
        assert codes(Machine(state, listen=listen), "port") == [("fault", "doctor.port-taken")]
    assert codes(Machine(state, listen=listen), "port") == [("ok", "doctor.port-free")]


@pytest.mark.parametrize(("listen", "code"), [
    ("nonsense", "server.address"), ("127.0.0.1:x", "server.address"),
    ("127.0.0.1:99999", "server.address"), ("no-such-host.invalid:1", "doctor.port-taken"),
    ("192.0.2.1:8443", "doctor.port-taken")])
def test_an_address_that_cannot_be_listened_at(state: Path, listen: str, code: str) -> None:
    [only] = found(Machine(state, listen=listen), "port")
    assert (only.state, only.code) == ("fault", code)
    assert only.text.remedy and listen in only.text.message


def test_a_server_that_runs_and_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    process = spawn_up(folder)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(doctor, "_ANSWER_S", 0.5)
        [only] = found(Machine(folder), "port")
        assert (only.state, only.code) == ("fault", "doctor.no-answer")
        assert codes(Machine(folder), "database") == [("ok", "doctor.database")]
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)


def test_a_look_at_the_lock_refuses_no_server_that_starts(state: Path) -> None:
    """systemd would not start it again: what it ends with is no fault that passes."""
    from hotspare.server.process import only_one

    held = threading.Event()

    def look() -> None:
        with only_one(state):
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    held.wait()
    with only_one(state):
        pass
    thread.join()


def test_a_server_that_runs_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    process = spawn_up(folder)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        [only] = found(Machine(folder, listen="127.0.0.1:1"), "port")
        assert (only.state, only.fields) == ("ok", {"url": url})
        assert codes(Machine(folder), "database") == [("ok", "doctor.database")]
    finally:
        process.terminate()
        process.wait(20)


def test_a_machine_looks_at_its_server_and_at_both_clocks(tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "worker"
    folder.mkdir(0o700)
    machine = Machine(folder, role="worker")
    assert codes(machine, "server") == [("fault", "enrolment.missing")]
    (tmp_path / "server").mkdir(0o700)
    with rig(tmp_path / "server") as made, served(made) as server:
        (folder / "worker.json").write_text(json.dumps({
            "server": server.url, "name": "m", "ca": server.ca.read_text(), "token": "t",
            "code_digest": "d"}))
        (folder / "worker.json").chmod(0o600)
        assert doctor.role_of(folder, None) == "worker"
        assert codes(machine, "server") == [("ok", "doctor.answers"), ("ok", "doctor.offset")]
        now = time.time
        for ahead, state in ((10, "warning"), (-600, "fault")):
            monkeypatch.setattr(doctor.time, "time", lambda a=ahead: now() + a)
            assert codes(machine, "server")[1] == (state, "doctor.offset-large")
        monkeypatch.undo()
    assert codes(machine, "server") == [("fault", "doctor.server-unreachable")]


def test_kvm_is_never_waited_for(state: Path, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(state)
    began = time.monotonic()
    [only] = found(machine, "KVM")
    assert only.state in {"ok", "warning"}
    assert time.monotonic() - began < 30.0
    if not Path("/dev/kvm").exists():
        return
    # A probe that hangs for ever, as one stuck in the kernel does.
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(sleeper))
    monkeypatch.setattr(doctor, "_PROBE_S", 0.3)
    assert codes(machine, "KVM") == [("warning", "doctor.kvm-hangs")]
    sleeper.write_text("#!/bin/sh\necho No such device >&2\nexit 1\n")
    [only] = found(machine, "KVM")
    assert (only.code, only.fields) == ("doctor.kvm-unusable", {"error": "No such device"})
    assert "20 s" in only.text.remedy           # what libvirt's own tries cost each receiver
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert codes(machine, "KVM") == [("warning", "doctor.kvm-rights")]


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(
        state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "tls" / "ca.pem").write_text("no certificate")
    findings = list(examine(Machine(state)))
    assert [f.code for f in findings if f.check == "certificates"] == ["doctor.failed"]
    assert findings[-1].check == "clock"


def test_what_is_bad_has_a_remedy() -> None:
    good = {"doctor.clock-unknown", "doctor.no-state", "doctor.rights", "doctor.zones"}
    for code in texts.TEXTS:
        bad = code.rpartition("-")[2] in {"missing", "old", "low", "few", "ended", "ends", "taken",
                                          "unreachable", "large", "alone", "hangs", "unusable",
                                          "answer", "rights", "inodes", "writable", "zones"}
        if bad and code not in good:
            assert catalogue()[code].remedy, code


def test_the_command(state: Path) -> None:
    def run(*args: str, language: str = "en") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hotspare.cli.main", "doctor", "--state-dir", str(state),
             "--listen", f"127.0.0.1:{free_port()}", *args], capture_output=True, text=True,
            check=False, timeout=120, env=os.environ | {"HOTSPARE_LANGUAGE": language})

    done = run("--json", "--role", "server")
    assert done.returncode == 0, done.stdout
    lines = json.loads(done.stdout)
    assert {line["state"] for line in lines} <= {"ok", "warning"}
    assert {"check", "state", "code", "message", "remedy", "fields"} == set(lines[0])
    (state / "secret.key").chmod(0o640)
    done = run("--role", "server")
    assert done.returncode == 1
    assert f"chmod go-rwx {state / 'secret.key'}" in done.stdout
    done = run("--role", "server", language="zh-CN")
    assert done.returncode == 1
    assert f"其他用户可以读取 {state / 'secret.key'}" in done.stdout
    assert f"请执行：chmod go-rwx {state / 'secret.key'}" in done.stdout
    done = run("--role", "server", "--json", language="zh-CN")
    assert "请执行" in next(line["remedy"] for line in json.loads(done.stdout)
                         if line["code"] == "doctor.readable")


def test_few_files_and_a_bad_settings_file(state: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    machine = Machine(state)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        assert codes(machine, "open files") == [("warning", "doctor.files-few")]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    bad = tmp_path / "worker.toml"
    bad.write_text("max_tasks = many")
    monkeypatch.setenv("HOTSPARE_WORKER_CONFIG", str(bad))
    assert [s for s, _ in codes(machine, "settings")] == ["fault"]
    assert {s for s, _ in codes(machine, "space")} == {"ok"}, "it is told once"
