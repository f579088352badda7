"""The commands of a fleet, against a server of its own, and the worker as a process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotspare.services.users import Users
from hotspare.worker import enrolment
from unit.fleet_rig import FleetRig, fleet
from unit.service_rig import ADMIN, OPERATOR, wait_until
from unit.test_cli import Cli


@pytest.fixture
def made(tmp_path: Path) -> Iterator[FleetRig]:
    with fleet(tmp_path) as found:
        yield found


@pytest.fixture
def cli(made: FleetRig, tmp_path: Path) -> Cli:
    users: Users = made.services.users
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home, {"HOTSPARE_SERVER": made.served.url, "HOTSPARE_CA": str(made.served.ca),
                      "HOTSPARE_TOKEN": users.local_token()})


class Process:
    """``hotspare worker``; its code comes by its standard input."""

    def __init__(self, *words: str, text: str = "") -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HOTSPARE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hotspare.cli.main", "worker", *words], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment)
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.close()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ended(self) -> tuple[int, str, str]:
        code = self.process.wait(30)
        assert self.process.stdout is not None and self.process.stderr is not None
        return code, self.process.stdout.read(), self.process.stderr.read()


Spawn = Callable[..., Process]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start workers; they end with the test."""
    begun: list[Process] = []

    def start(*words: str, text: str = "") -> Process:
        begun.append(Process(*words, text=text))
        return begun[-1]

    yield start
    for process in begun:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


def test_a_machine_from_its_code_to_its_removal(made: FleetRig, cli: Cli, spawn: Spawn,
                                           tmp_path: Path) -> None:
    state = tmp_path / "m1"
    code = cli("machine", "enrol", "m1", "--valid", "10m").stdout.strip()
    worker = spawn("--server", made.served.url, "--name", "m1", "--enrol", "-", "--state",
                     str(state), text=code + "\n")
    assert "DR machine m1 works for" in worker.line()
    wait_until(lambda: any(m.name == "m1" and m.live
                           for m in made.services.machines.list(ADMIN).items))
    enrolled = enrolment.load(state)
    assert enrolled is not None and enrolled.server == made.served.url

    rule = made.rig.rule()
    moved = cli.json("rule", "move", "r1", "--machine", "m1")
    assert (moved["machine"], moved["epoch"]) == ("m1", 2)
    assert "with local now" in cli("rule", "move", "r1", "--machine", "local").stdout
    assert cli.json("platform", "move", "src", "--machine", "m1")["machine"] == "m1"
    assert cli.json("machine", "remove", "m1", code=4)["error"]["code"] == "machine.in-use"
    cli("platform", "move", "src", "--machine", "local")

    # it ends in order, and begins again without its code
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended()[0] == 0
    again = spawn("--state", str(state), "--json")
    assert '"event": "ready"' in again.line()
    assert cli("task", "list", "--local", "--socket", str(state / "worker.sock")
               ).stdout.strip() == "No tasks."
    wait_until(lambda: cli.json("task", "list", "--local", "--socket",
                                str(state / "worker.sock"))["contact"])
    cli("machine", "revoke", "m1")
    ended, said, _ = again.ended()
    assert ended == 5 and "revoked" in said and "hotspare machine enrol" in said
    cli("machine", "remove", "m1")
    assert rule and "m1" not in cli("machine", "list").stdout


def test_what_a_worker_is_refused_for(made: FleetRig, cli: Cli, spawn: Spawn, tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    state = str(tmp_path / "m1")
    code, _, said = spawn("--state", state).ended()
    assert code == 2 and "is not enrolled" in said
    code, _, said = spawn("--server", made.served.url, "--name", "m1", "--enrol", "rubbish",
                            "--state", state).ended()
    assert code == 2 and "no enrolment code" in said
    code, _, said = spawn("--state", state, "--enrol", "rubbish").ended()
    assert code == 2 and "--server and --name" in said
    good = cli.json("machine", "enrol", "m1")["code"]
    code, _, said = spawn("--server", made.served.url, "--name", "m2", "--enrol", good,
                            "--state", state).ended()
    assert code == 5 and "not known, was used already" in said
    # an old one meets a server that has gone on
    from hotspare.workflows import wire

    monkeypatch.setattr(wire, "OLDEST", 7)
    monkeypatch.setattr(wire, "PROTOCOL", 8)
    code, _, said = spawn("--server", made.served.url, "--name", "m1", "--enrol", good,
                            "--state", state).ended()
    assert code == 1 and "needs 7 to 8" in said and "Upgrade Hotspare on this DR machine" in said


def test_only_administrators_let_machines_in(made: FleetRig, cli: Cli) -> None:
    made.services.users.add(ADMIN, OPERATOR.name, "olga-password", "operator")
    token: Any = made.services.users.login(OPERATOR.name, "olga-password", "").token
    for words in (("machine", "enrol", "m1"), ("machine", "revoke", "m1"),
                  ("machine", "remove", "m1"), ("platform", "move", "src", "--machine", "local")):
        assert cli.json(*words, code=5, HOTSPARE_TOKEN=token)["error"]["code"] == "auth.role"
    error = cli.json("rule", "move", "none", "--machine", "local", code=3, HOTSPARE_TOKEN=token)
    assert error["error"]["code"] == "rule.not-found"


def test_a_copy_of_a_machine_and_two_that_share_a_directory(
        made: FleetRig, cli: Cli, spawn: Spawn, tmp_path: Path) -> None:
    """Two processes of one identity: one of them ends and says why; and two machines of one host
    need a temporary directory each."""
    state, copy, shared = tmp_path / "m1", tmp_path / "copy", tmp_path / "shared"

    def start(name: str, *more: str) -> Process:
        code = cli("machine", "enrol", name).stdout.strip()
        return spawn("--server", made.served.url, "--name", name, "--enrol", "-", "--state",
                     str(tmp_path / name), *more, text=code + "\n")

    one = start("m1", "--temp-dir", str(shared))
    assert "DR machine m1 works for" in one.line(), one.ended()
    again = spawn("--state", str(state))
    code, _, said = again.ended()
    assert code == 4 and "runs on the state directory" in said
    code, _, said = start("m2", "--temp-dir", str(shared)).ended()
    assert code == 4 and "Another DR machine works in the temporary directory" in said
    assert "DR machine m2 works for" in spawn("--state", str(tmp_path / "m2")).line()
    wait_until(lambda: {m.name for m in made.services.machines.list(ADMIN).items if m.live}
               >= {"m1", "m2"})

    # nobody else of the host reads anything of it
    for path in (state, *state.rglob("*"), shared):
        assert path.stat().st_mode & 0o077 == 0, path

    shutil.copytree(state, copy, ignore=shutil.ignore_patterns("*.sock"))
    second = spawn("--state", str(copy), "--temp-dir", str(tmp_path / "other"))
    assert "DR machine m1 works for" in second.line()
    code, _, said = one.ended()
    assert code == 5 and "Another process speaks for the DR machine m1" in said
    assert "delete its state directory" in said
    assert second.process.poll() is None
