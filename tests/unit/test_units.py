"""The systemd units are right as systemd itself reads them, hardened, and fit the program."""

from __future__ import annotations

import configparser
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hotspare.server.control import SHUTDOWN_S

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
NAMES = ("hotspare", "hotspare-server", "hotspare-worker")
HOTSPARE = str(Path(sys.executable).with_name("hotspare"))


def analyze(*args: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("systemd-analyze is not installed: run tools/setup", pytrace=False)
        pytest.skip("systemd-analyze is not installed (package systemd)")
    return subprocess.run([program, *args], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with a program and a user that this machine has."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    for name in NAMES:
        text = (UNITS / f"{name}.service").read_text()
        assert text.count("/opt/hotspare/bin/hotspare") == 1
        text = text.replace("/opt/hotspare/bin/hotspare", HOTSPARE)
        text = re.sub(r"^(User|Group)=hotspare$", rf"\1={user}", text, flags=re.MULTILINE)
        (tmp_path / f"{name}.service").write_text(text)
    return tmp_path


def unit(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / f"{name}.service")
    return parser["Service"]


def test_systemd_finds_no_fault(installed: Path) -> None:
    done = analyze("verify", "--man=no", *(installed / f"{n}.service" for n in NAMES))
    ours = [line for line in done.stderr.splitlines() if "hotspare" in line]
    assert (done.returncode, ours) == (0, [])


def test_a_fault_would_be_found(installed: Path) -> None:
    path = installed / "hotspare.service"
    path.write_text(path.read_text().replace("ProtectSystem=strict", "ProtectSystem=very"))
    assert "protect system" in analyze("verify", "--man=no", path).stderr


@pytest.mark.parametrize("name", NAMES)
def test_little_is_exposed(installed: Path, name: str) -> None:
    done = analyze("security", "--offline=yes", "--json=short", "--threshold=25",
                   installed / f"{name}.service")
    left = [x["name"] for x in json.loads(done.stdout) if x["exposure"]] if done.stdout else []
    assert done.returncode == 0, left


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_fits_the_program(name: str) -> None:
    service = unit(name)
    command = service["ExecStart"].split()[1:]
    done = subprocess.run([HOTSPARE, *command, "--help"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    # The program's own end is not cut off by systemd.
    assert float(service["TimeoutStopSec"]) > SHUTDOWN_S
    assert service["KillMode"] == "mixed"
    assert service["Restart"] == "on-failure"
    assert service["StateDirectoryMode"] == "0700"
    assert f"/var/lib/{service['StateDirectory']}" in service["Environment"]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_program_needs_is_not_forbidden(name: str) -> None:
    """ssh and NBD over unix and internet sockets, libvirt's client, files that are locked, threads
    and children. What a kernel filter would refuse is seen nowhere but in a real start."""
    service = unit(name)
    families = set(service["RestrictAddressFamilies"].split())
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= families
    assert "MemoryDenyWriteExecute" not in service      # cffi's callbacks
    assert int(service["LimitNOFILE"]) >= 4096          # what doctor asks for
    assert service["UMask"] == "0077"


def allowed_calls(name: str) -> set[str]:
    """Of the unit's filter, as systemd knows the groups."""
    groups: dict[str, set[str]] = {}
    group = ""
    for raw in analyze("syscall-filter").stdout.splitlines():
        line = re.sub(r"\x1b\[[0-9;]*m", "", raw).strip()
        if line.startswith("@") and not raw.startswith(" "):
            group = line
            groups[group] = set()
        elif line and not line.startswith("#"):
            groups[group].add(line)

    def calls(word: str) -> set[str]:
        return set().union(*map(calls, groups[word])) if word.startswith("@") else {word}

    allowed: set[str] = set()
    for words in re.findall(r"^SystemCallFilter=(.*)$",
                            (UNITS / f"{name}.service").read_text(), re.MULTILINE):
        for word in words.split():
            if word.startswith("~"):
                allowed -= calls(word[1:])
            else:
                allowed |= calls(word)
    return allowed


def lives(program: list[str], state: Path, passphrase: str) -> None:
    """``hotspare up``, a host by a key file and one by a key in the database, a backup, its end."""
    key = state.parent / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (state.parent / "known").touch()
    env = os.environ | {"HOTSPARE_STATE_DIR": str(state), "HOTSPARE_BACKUP_PASSPHRASE": passphrase}
    process = subprocess.Popen([*program, "up", "--state-dir", str(state), "--listen",
                                "127.0.0.1:0", "--json"], stdout=subprocess.PIPE, text=True,
                               env=env)
    try:
        assert process.stdout is not None and process.stdout.readline()
        known = f"known_hosts={state.parent / 'known'}"
        for command in (
                ["platform", "add", "a", "qemu+ssh://root@127.0.0.1:1/system", "--option",
                 f"keyfile={key}", "--option", known],
                ["platform", "add", "b", "qemu+ssh://root@127.0.0.1:2/system", "--password-file",
                 str(key), "--option", known],
                ["admin", "backup", str(state.parent / "b")]):
            subprocess.run([HOTSPARE, *command], check=False, capture_output=True, timeout=100,
                           env=env)
        shown = subprocess.run([HOTSPARE, "platform", "show", "b", "--json"], check=False,
                               capture_output=True, text=True, env=env)
        assert "refused" in shown.stdout.lower(), shown.stdout      # ssh itself was run
        assert (state.parent / "b").exists()
    finally:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]) if program[0] != HOTSPARE else process.pid, signal.SIGTERM)
        process.wait(30)


def test_the_program_makes_no_call_that_its_filter_refuses(tmp_path: Path) -> None:
    """Seen: libvirt's client could run no ssh, for want of one call."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    out = tmp_path / "calls"
    lives([strace, "-f", "-qq", "-o", str(out), HOTSPARE], tmp_path / "state", "correct horse")
    made = {m[1] for m in re.finditer(r"^\d+ +(\w+)\(", out.read_text(errors="replace"),
                                      re.MULTILINE)}
    assert "capset" in made and len(made) > 50
    if os.geteuid() == 0:
        made.discard("fchown")          # SQLite gives root's files to the database's owner
    for name in ("hotspare", "hotspare-worker"):
        assert made - allowed_calls(name) == set(), name


def test_its_user_is_made(tmp_path: Path) -> None:
    program = shutil.which("systemd-sysusers")
    if program is None:
        pytest.skip("systemd-sysusers is not installed (package systemd)")
    (tmp_path / "etc").mkdir()
    done = subprocess.run([program, f"--root={tmp_path}", str(UNITS / "hotspare.sysusers")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = (tmp_path / "etc" / "passwd").read_text().strip()
    name, _, uid, _, _, home, shell = line.split(":")
    assert (name, home) == ("hotspare", "/var/lib/hotspare")
    assert 0 < int(uid) < 1000 and shell.endswith("nologin")
    assert (tmp_path / "etc" / "group").read_text().startswith("hotspare:")
