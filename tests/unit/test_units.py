"""The systemd units are right as systemd itself reads them, hardened, and fit the program."""

from __future__ import annotations

import configparser
import json
import os
import pwd
import re
import shutil
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
