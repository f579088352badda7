"""Secrets are nowhere that they need not be: in no file, no process list, no answer, no log."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotspare.client.client import Client
from hotspare.domain.errors import HotspareError

from .rig import Rig, hotspare, wait_for

ADMIN = "canary-password-93f1"      # what the rig's server gets by HOTSPARE_ADMIN_PASSWORD
WRONG = "canary-wrong-5d20"
USER = "canary-user-secret-77aa"
CONTROL = "canary-control-0a1b"


def watch_processes(canaries: list[str], stop: threading.Event, found: set[str]) -> None:
    """Look at the arguments of all processes, again and again, while the test goes on."""
    words = [c.encode() for c in canaries]
    own = os.getpid()
    while not stop.is_set():
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == own:
                continue
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if any(word in line for word in words):
                found.add(line.replace(b"\0", b" ").decode(errors="replace"))
        stop.wait(0.1)


def files_with(canaries: list[str], *places: Path) -> list[str]:
    """Files below ``places`` that hold a canary, in whole or in part of a database page."""
    found = subprocess.run(
        ["grep", "-rlaF", *(word for c in canaries for word in ("-e", c)), "--",
         *(str(p) for p in places if p.exists())], capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    return found.stdout.splitlines()


def all_answers(client: Client, rig: Rig) -> Iterator[tuple[str, str]]:
    """What every address that reads says, as text."""
    spec = client.request("GET", "/openapi.json")
    yield "/openapi.json", json.dumps(spec)
    values: dict[str, list[Any]] = {
        "task": [t["id"] for t in client.tasks(largest=100)],
        "platforms": [p["id"] for p in client.platforms()], "rules": [rig.rule_id],
        "users": []}
    asked = 0
    for address, operations in spec["paths"].items():
        if "get" not in operations:
            continue
        path = address.removeprefix("/api/v1")
        if path in {"/ca", "/openapi.json"}:
            continue        # public
        area = path.split("/")[1]
        kinds = values["task"] if "{task}" in path else values.get(area, []) \
            if "{ref}" in path else [] if "{test}" in path else [None]
        for value in kinds:
            filled = path.replace("{task}", str(value)).replace("{ref}", str(value))
            answer = client._http.get(filled)   # JSON, or a log, or metrics
            assert answer.status_code == 200, answer.text
            yield filled, answer.text
            asked += 1
    assert asked > 20


@pytest.mark.timeout(240)
def test_secrets_stay_secret(rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    started = time.time()
    rig = rig_factory(boot="kernel", rate=5.0)
    server, sshd = rig.server, rig.lab.ssh
    key = sshd.keyfile.read_text()
    # the first line is the same in all keys of a kind
    key_lines = [line for line in key.splitlines() if not line.startswith("-----")][1:]
    canaries = [ADMIN, WRONG, USER, *key_lines]
    assert len(key_lines) >= 3
    stop, in_arguments = threading.Event(), set[str]()
    watcher = threading.Thread(target=watch_processes,
                               args=([*canaries, CONTROL], stop, in_arguments))
    watcher.start()
    # it does see what is there: a process with a canary of its own
    subprocess.run(["/bin/sh", "-c", "sleep 1", CONTROL], check=True)
    answers: dict[str, str] = {}
    try:
        # a source that needs a secret, which really is used for the replication
        known = sshd.known_hosts.read_text()
        added = hotspare(
            server, "platform", "add", "by-ssh",
            f"qemu+ssh://{sshd.user}@127.0.0.1:{sshd.port}/session?socket={rig.lab.a.socket}"
            "&proxy=netcat", "--option", f"known_hosts={known.strip()}",
            "--option", f"socket_dir={rig.lab.a.socket_dir}", "--password-file", "-", "--json",
            stdin=key)
        assert added.exit == 0, added
        answers["platform add"] = added.out + added.err
        broken = hotspare(
            server, "platform", "add", "broken",
            f"qemu+ssh://{sshd.user}@127.0.0.1:{sshd.port}/session?socket={rig.lab.a.socket}&"
            "proxy=native", "--option", f"known_hosts={known.strip()}",
            "--password-file", str(_file(tmp_path / "in" / "bad", USER)))
        assert broken.exit != 0, "a text that is no key cannot sign in"
        assert "ssh" in broken.out + broken.err
        answers["platform add broken"] = broken.out + broken.err
        with server.client() as client:
            client.add_platform("site-b", rig.lab.b.uri)
            wait_for(lambda: client.platform("site-b")["refreshed_at"], 60, "site-b is read")
            client.request("POST", "/users", body={
                "name": "canary", "password": USER, "role": "viewer"})
            rig.rule_id = client.create_rule({
                "name": rig.rule, "source": "by-ssh", "vm": rig.guest.name, "target": "site-b",
                "storage": rig.lab.pool_name(rig.lab.b)})["id"]
            for user in ("admin", "nobody"):
                with pytest.raises(HotspareError) as refused:
                    client.login(user, WRONG)
                assert refused.value.code == "auth.failed"
                answers[f"login {user}"] = json.dumps(refused.value.as_dict())
        signed_in = hotspare(
            server, "login", "--server", server.url, "--ca",
            str(server.state_dir / "tls" / "ca.pem"), "--user", "admin", "--json",
            HOTSPARE_PASSWORD=ADMIN, XDG_CONFIG_HOME=str(tmp_path / "home"))
        assert signed_in.exit == 0, signed_in
        answers["login"] = signed_in.out + signed_in.err
        token = json.loads((tmp_path / "home/hotspare/session.json").read_text())["token"]
        answers["malformed"] = _malformed(server.url, token, server.state_dir)
        rig.run()
        with server.client() as client:
            answers |= dict(all_answers(client, rig))
        # while all is open: also what is in files for the time of the connection
        places = (server.state_dir, server.temp_dir, server.log, *_new_temporary(started))
        assert files_with(canaries, *places) == []
    finally:
        stop.set()
        watcher.join()
    server.stop()
    assert len(in_arguments) == 1 and CONTROL in in_arguments.pop()
    told = {at for at, text in answers.items() for c in (*canaries, token) if c in text}
    assert told == set()
    local = (server.state_dir / "local-token").read_text().strip()
    assert files_with([token], server.state_dir, server.temp_dir, server.log) == []
    assert files_with([local], server.state_dir, server.temp_dir, server.log) == [
        str(server.state_dir / "local-token")]
    assert files_with(canaries, server.state_dir, server.temp_dir, server.log,
                      *_new_temporary(started)) == []
    # what has to be there is for its owner only
    for path in [server.state_dir, *server.state_dir.rglob("*")]:
        if path.name in {"secret.key", "local-token", "ca-key.pem"} or path == server.state_dir \
                or path.suffix in {".sqlite", ".key"}:
            assert path.stat().st_mode & 0o077 == 0, path
    # and the hash does its work: the right password signs in after a restart
    server.start()
    with server.client() as client:
        assert client.login("canary", USER)["role"] == "viewer"


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def _new_temporary(since: float) -> list[Path]:
    """What Hotspare made for itself outside of its directories."""
    return [p for p in Path("/tmp").glob("hs-link-*") if p.stat().st_mtime >= since - 60]


def _malformed(url: str, token: str, state_dir: Path) -> str:
    """Requests that are refused must not be repeated with what is secret in them."""
    said = []
    trusted = ssl.create_default_context(cafile=state_dir / "tls" / "ca.pem")
    with httpx.Client(base_url=url + "/api/v1", verify=trusted,
                      trust_env=False) as http:
        for path, body in (
                ("/login", {"user": "admin", "password": [WRONG]}),
                ("/login", {"user": "admin", "password": WRONG, "more": 1}),
                ("/login", {"user": "admin", "password": WRONG * 100}),
                ("/users", {"name": "x", "password": USER, "role": "boss"}),
                ("/platforms", {"name": "x", "uri": f"qemu+ssh://me:{WRONG}@host/system"}),
                ("/platforms", {"name": "x", "uri": 1, "secret": {"key": USER}})):
            answer = http.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
            assert 400 <= answer.status_code < 500, (path, answer.status_code)
            said.append(answer.text)
        said.append(http.post("/login", content=f'{{"password": "{WRONG}"').text)
    return "\n".join(said)
