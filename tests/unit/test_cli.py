"""The program itself, in processes of its own, against a server in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hotspare.cli.main import app
from hotspare.client import Client, Session
from hotspare.domain.errors import HotspareError
from hotspare.domain.messages import catalogue
from unit.service_rig import Served, prepared, rig, served, spawn_up, wait_until

PASSWORD = "CANARY-cli-77d0"


@dataclass
class Done:
    stdout: str
    stderr: str


@dataclass
class Cli:
    """Runs ``hotspare`` with a home directory and an environment of its own."""

    home: Path
    environment: dict[str, str]

    def __call__(self, *words: str, code: int = 0, text: str | None = None,
                 **environment: str) -> Done:
        """In this process, which is ten times as quick as in one of its own."""
        wanted = self._environment(environment)
        gone: dict[str, str | None] = {k: None for k in os.environ if k not in wanted}
        done = CliRunner().invoke(app, words, input=text or "", env=gone | wanted)
        assert done.exit_code == code, (words, done.exit_code, done.stdout, done.stderr)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Done(done.stdout, done.stderr)

    def process(self, *words: str, code: int = 0, **environment: str) -> Done:
        """As a user runs it."""
        done = subprocess.run(
            [sys.executable, "-m", "hotspare.cli.main", *words], text=True, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            env=self._environment(environment))
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return Done(done.stdout, done.stderr)

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        base = {k: v for k, v in os.environ.items()
                if not k.startswith(("HOTSPARE_", "XDG_")) and k != "PYTHONPATH"}
        return base | {"HOME": str(self.home), "COLUMNS": "200"} | self.environment | more

    def json(self, *words: str, code: int = 0, **environment: str) -> Any:
        done = self(*words, "--json", code=code, **environment)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = prepared(tmp_path_factory.mktemp("cli"))
    with rig(folder) as made:
        from unit.service_rig import ADMIN

        made.services.users.add(ADMIN, "admin", PASSWORD, "administrator")
        with served(made) as it:
            yield it


@pytest.fixture(scope="module")
def cli(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    token = server.rig.services.users.local_token()
    return Cli(tmp_path_factory.mktemp("home"), {
        "HOTSPARE_SERVER": server.url, "HOTSPARE_CA": str(server.ca), "HOTSPARE_TOKEN": token})


def test_the_operators_path(server: Served, cli: Cli) -> None:
    made = cli.json("rule", "create", "web", "--source", "src", "--vm", "web0", "--target",
                    "dst", "--storage", "default", "--interval", "15m", "--retention", "3",
                    "--network", "default=lan", "--replica-name", "spare")
    assert made["schedule"]["every_s"] == 900
    assert (made["retention"], made["networks"], made["replica_name"]) == (
        3, {"default": "lan"}, "spare")
    run = cli.json("rule", "start", "web", "--wait")
    assert (run["outcome"], run["kind"]) == ("ok", "replicate")
    assert "idle" in cli("rule", "list").stdout
    assert "空闲" in cli("rule", "show", "web").stdout
    assert [p["number"] for p in cli.json("point", "list", "web")] == [1]
    shown = cli("task", "show", str(run["id"])).stdout
    assert "transfer" in shown and "1.0 MiB" in shown
    assert "ended: ok" in cli("task", "log", str(run["id"])).stdout
    over = cli("failover", "web", "--point", "1", "--wait")
    assert "ended: ok" in over.stdout
    refused = cli("rule", "start", "web", code=4)
    assert "temporary failover" in refused.stderr and "hotspare undo web" in refused.stderr
    assert cli.json("undo", "web", "--wait")["outcome"] == "ok"
    assert cli.json("rule", "stop", "web")["state"] == "stopped"
    cli("rule", "delete", "web", "--delete-replica", code=1, text="n\n")
    assert cli.json("rule", "delete", "web", "--delete-replica", "--yes",
                    "--wait")["outcome"] == "ok"
    assert cli.json("rule", "list") == []


def test_a_run_that_fails_ends_with_its_codes_exit(server: Served, cli: Cli) -> None:
    from hotspare.domain.errors import GiveUp

    cli.json("rule", "create", "bad", "--source", "src", "--vm", "web1", "--target", "dst",
             "--storage", "default")
    server.rig.player.fail["replicate"] = GiveUp("vm.unknown", vm="web1", platform="src")
    try:
        failed = cli("rule", "start", "bad", "--wait", code=3)
        assert "no machine web1" in failed.stderr
        assert cli.json("rule", "start", "bad", "--wait", code=3)["error"]["code"] == "vm.unknown"
    finally:
        del server.rig.player.fail["replicate"]
    server.rig.player.hold.set()
    task = cli.json("rule", "start", "bad")["id"]
    wait_until(lambda: server.rig.state("bad") == "running")
    cli("rule", "stop", "bad")
    assert cli.json("task", "show", str(task), "--wait", code=1)["outcome"] == "stopped"
    server.rig.player.hold.clear()


@pytest.mark.parametrize(("words", "code", "error"), [
    (["rule", "show", "none"], 3, "rule.not-found"),
    (["task", "show", "99999"], 3, "task.not-found"),
    (["point", "list", "none"], 3, "rule.not-found"),
    (["platform", "show", "none"], 3, "platform.not-found"),
    (["platform", "add", "x", "qemu+ssh://h/system?command=/bin/sh"], 2, "platform.address"),
    (["platform", "add", "x", "qemu:///system", "--kind", "abacus"], 8, "platform.kind"),
    (["platform", "add", "src", "qemu:///session"], 4, "platform.exists"),
    (["rule", "create", "x", "--source", "src", "--vm", "transient", "--target", "dst",
      "--storage", "default"], 8, "vm.unprotectable"),
    (["rule", "create", "x", "--source", "src", "--vm", "web2", "--target", "dst",
      "--storage", "default", "--retention", "0"], 2, "input.invalid"),
    (["login", "--server", "https://x", "--json"], 2, "input.secret-source"),
])
def test_exit_codes_and_errors_as_json(cli: Cli, words: list[str], code: int,
                                       error: str) -> None:
    plain = cli(*words, code=code)
    assert plain.stderr or "--json" in words
    told = cli.json(*[w for w in words if w != "--json"], code=code)
    assert told["error"]["code"] == error and told["error"]["message"]


def test_bad_use_is_two(cli: Cli) -> None:
    cli("rule", "create", code=2)
    cli("rule", "create", "x", "--source", "a", "--vm", "b", "--target", "c", "--storage", "d",
        "--interval", "soon", code=2)
    cli("task", "show", "0", code=2)
    cli("nonsense", code=2)


def test_as_a_process(cli: Cli) -> None:
    assert "web0" in cli.process("platform", "vms", "src").stdout
    assert "no rule none" in cli.process("rule", "show", "none", code=3).stderr
    assert json.loads(cli.process("rule", "show", "none", "--json", code=3).stdout)[
        "error"]["code"] == "rule.not-found"
    cli.process("rule", "list", code=6, HOTSPARE_SERVER="https://127.0.0.1:1")


def test_no_server_and_a_dead_one(cli: Cli, tmp_path: Path, server: Served) -> None:
    alone = Cli(tmp_path, {"HOTSPARE_STATE_DIR": str(tmp_path / "none")})
    assert alone.json("rule", "list", code=5)["error"]["code"] == "client.no-server"
    assert cli.json("rule", "list", code=6, HOTSPARE_SERVER="https://127.0.0.1:1")["error"][
        "code"] == "client.unreachable"
    assert cli.json("rule", "list", code=5, HOTSPARE_TOKEN="x")["error"][
        "code"] == "auth.required"
    assert cli.json("rule", "list", code=5, HOTSPARE_CA="")["error"]["code"] in {
        "client.untrusted"}
    assert cli.json("rule", "list", code=2, HOTSPARE_CA=__file__)["error"]["code"] == "input.file"


def test_login_keeps_a_private_session(server: Served, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"HOTSPARE_STATE_DIR": str(tmp_path / "none")})
    secret = tmp_path / "pw"
    secret.write_text(PASSWORD + "\n")
    to = ["login", "--server", server.url, "--fingerprint", server.fingerprint]
    cli(*to, "--password-file", str(secret))
    session = tmp_path / ".config" / "hotspare" / "session.json"
    assert session.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in session.read_text()
    assert cli.json("machine", "list")[0]["name"] == "local"
    cli("logout")
    assert not session.exists()
    cli(*to, HOTSPARE_PASSWORD=PASSWORD)
    cli(*to, "--password-file", "-", text=PASSWORD)
    assert cli.json(*to, code=5, HOTSPARE_PASSWORD="wrong")["error"]["code"] == "auth.failed"
    assert cli.json(*to[:3], "--fingerprint", "00", code=5, HOTSPARE_PASSWORD="x")["error"][
        "code"] == "client.fingerprint"


def commands() -> Iterator[tuple[str, ...]]:
    for command in app.registered_commands:
        yield (str(command.name),)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            yield (str(group.name), str(command.name))


def test_every_command_has_json_and_none_takes_a_password(cli: Cli) -> None:
    import inspect

    callbacks = [c.callback for c in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        callbacks += [c.callback for c in group.typer_instance.registered_commands]
    for callback in callbacks:
        assert callback is not None
        names = inspect.signature(callback).parameters
        assert "as_json" in names, callback
        for name, parameter in names.items():
            if "password" in name:
                assert "str" not in str(parameter.annotation), (callback, name)
    assert len(list(commands())) == len(callbacks)


def test_the_program_starts_quickly() -> None:
    """Without the weight of the server's libraries: measured by what is imported, which does
    not depend on how busy the host is."""
    code = ("import sys; import hotspare.cli.main; "
            "print([m for m in ('sqlalchemy', 'fastapi', 'uvicorn', 'pydantic', 'httpx', 'dbos', "
            "'alembic', 'cryptography', 'rich.console') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                          check=True).stdout.strip() == "[]"


def test_exit_codes_are_the_documented_ones() -> None:
    assert {text.exit for text in catalogue().values()} <= set(range(1, 9))


# --- hotspare up ---------------------------------------------------------------------------------


def ready_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    ready: dict[str, Any] = json.loads(line)
    return ready


def test_up_first_start_second_start_and_a_quick_end(tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = spawn_up(state)
    try:
        ready = ready_of(process)
        assert ready["event"] == "ready"
        made = Path(ready["admin_password_file"])
        assert made.stat().st_mode & 0o777 == 0o600
        password = made.read_text().strip()
        assert password not in json.dumps(ready)
        assert state.stat().st_mode & 0o777 == 0o700
        for file in state.rglob("*"):
            assert not file.stat().st_mode & 0o077 or file.parent != state, file

        second = spawn_up(state)
        assert "server.running" in second.communicate(timeout=30)[1] or second.returncode

        cli = Cli(tmp_path, {"HOTSPARE_STATE_DIR": str(state)})
        assert cli.json("machine", "list")[0]["live"] is True     # by the local token
        assert cli.json("platform", "add", "a", "qemu+ssh://source/system")["state"] == "ok"
        assert {v["name"] for v in cli.json("platform", "vms", "a")} >= {"web0", "transient"}
        with Client(Session(ready["url"], "", ready["ca"])) as client:
            token = client.login("admin", password)["token"]

        # A long poll and an idle connection are open: the end is quick all the same.
        def poll() -> None:
            with Client(Session(ready["url"], token, ready["ca"])) as waiting:
                try:
                    waiting.request("GET", "/tasks/1/progress", parameters={"wait": 60},
                                    timeout_s=60)
                except HotspareError:
                    pass

        thread = threading.Thread(target=poll)
        thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=10)
        assert time.monotonic() - began < 5.0
        assert process.returncode == 0, output
        thread.join()
        assert not (state / "server.json").exists()
        files = b"".join(f.read_bytes() for f in state.rglob("*") if f.is_file() and f != made)
        assert password.encode() not in files
    finally:
        process.kill()
        process.communicate()


def test_up_after_kill_9_goes_on(tmp_path: Path) -> None:
    """The task that ran, and the CA that clients pinned, are there again on the same address."""
    state = tmp_path / "state"
    prepared_state = tmp_path / "p"
    prepared_state.mkdir()
    prepared(prepared_state)
    prepared_state.rename(state)
    (state / "hold").touch()
    process = spawn_up(state, HOTSPARE_ADMIN_PASSWORD=PASSWORD)
    try:
        first = ready_of(process)
        assert first["admin_password_file"] is None
        cli = Cli(tmp_path, {"HOTSPARE_STATE_DIR": str(state)})
        cli("rule", "create", "web", "--source", "src", "--vm", "web0", "--target", "dst",
            "--storage", "default")
        task = cli.json("rule", "start", "web")["id"]
        wait_until(lambda: cli.json("rule", "show", "web")["state"] == "running")
        process.kill()
        process.communicate()
        process = spawn_up(state, listen=first["url"].removeprefix("https://"))
        second = ready_of(process)
        assert (second["url"], second["fingerprint"]) == (first["url"], first["fingerprint"])
        shown = cli.json("task", "show", str(task))
        assert (shown["state"], shown["outcome"]) == ("running", None)
        assert cli.json("rule", "show", "web")["state"] == "running"
        cli("rule", "start", "web", code=4)
        with Client(Session(second["url"], "", second["ca"])) as client:
            client.login("admin", PASSWORD)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("listen", ["127.0.0.1:x", "203.0.113.1:0"])
def test_up_says_what_is_wrong_with_its_address(tmp_path: Path, listen: str) -> None:
    cli = Cli(tmp_path, {})
    told = cli.process("up", "--state-dir", str(tmp_path / "s"), "--listen", listen, "--json",
                       code=2)
    assert json.loads(told.stdout)["error"]["code"] == "server.address"


def test_up_says_what_is_wrong_with_its_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = Cli(tmp_path, {}).process("up", "--state-dir", str(tmp_path / "file" / "s"), code=2)
    assert "state directory" in told.stderr
