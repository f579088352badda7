"""On a host that can make networks: a test's copy is on one of its own, and is reached there; and
two machines with one address do not meet without being allowed to."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbeds.kvm.procs import wait_for

from .rig import HOTSPARE, Server, hotspare

if TYPE_CHECKING:
    from testbeds.kvm import Guest

    from .system_host import SystemHost


class Inside:
    """A Hotspare in the host's own network, as one that is installed on it."""

    def __init__(self, system: SystemHost, directory: Path) -> None:
        self.system = system
        self.server = Server(directory)
        self.server.program = [*system.inside(), HOTSPARE]

    def __call__(self, *arguments: str, exit_code: int = 0) -> Any:
        done = hotspare(self.server, *arguments, "--json", timeout_s=200)
        assert done.exit == exit_code, (arguments, done.out, done.err,
                                        self.server.log.read_text()[-2000:])
        return json.loads(done.out) if done.out else None

    def protect(self, vm: str) -> None:
        self.server.start()
        self("platform", "add", "site", self.system.uri, "--option",
             f"socket_dir={self.system.sockets}")
        wait_for(lambda: self("platform", "show", "site")["refreshed_at"], 60, "it is read")
        self("rule", "create", "web", "--vm", vm, "--source", "site", "--target", "site",
             "--storage", "images", "--replica-name", f"{vm}-dr")
        self("rule", "start", "web", "--wait")

    def left(self) -> set[str]:
        """All of tests that is on the host."""
        found = {n.name() for n in self.system.conn.listAllNetworks()}
        found |= {d.name() for d in self.system.conn.listAllDomains()}
        return {name for name in found | {p.name for p in self.system.images.iterdir()}
                if "-te" in name}


def states(test: dict[str, Any]) -> dict[str, str]:
    return {c["name"]: c["state"] for c in test["checks"]}


@pytest.mark.timeout(500)
def test_a_copy_is_alone_and_is_reached(system: SystemHost, tmp_path: Path,
                                        guest_factory: Callable[..., Guest]) -> None:
    system.network("lan")
    guest = guest_factory(dhcp=True)
    source = system.adopt(guest, network="lan")
    mac = re.findall(r"<mac address='(.*?)'", source.XMLDesc())
    hs, gate = Inside(system, tmp_path), tmp_path / "gate"
    try:
        hs.protect(guest.name)
        asked = ["--check", "ping", "--check", "tcp=80", "--check", "heartbeat", "--wait"]
        done = hs("test", "start", "web", *asked)
        assert done["outcome"] == "ok", hs("test", "list", "web")
        [test] = hs("test", "list", "web")
        assert test["verdict"] == "passed"
        assert states(test) == dict.fromkeys(["network", "ping", "tcp-80", "heartbeat"], "passed")
        assert all(c["fields"]["address"].startswith("198.18.") for c in test["checks"]
                   if c["name"] in {"ping", "tcp-80"})
        assert hs.left() == set() and source.isActive()

        # with the address that it has by itself, beside which the host gets one
        done = hs("test", "start", "web", *asked, "--address", "10.0.2.15/24")
        assert done["outcome"] == "ok", hs("test", "list", "web")
        # with one that it has not, it does not answer
        failed = hs("test", "start", "web", "--check", "ping", "--check", "tcp=81", "--address",
                    "198.51.100.7/24", "--boot", "20s", "--wait", exit_code=1)
        assert failed["error"]["code"] == "test.failed"
        assert states(hs("test", "list", "web")[0]) == {
            "network": "passed", "ping": "failed", "tcp-81": "failed"}
        assert hs.left() == set()

        # the same card, on a network that nothing else is on, and that nothing leads out of
        hs.server.stop()
        hs.server.start(fault=f"test.after-start:touch={gate}")
        task = hs("test", "start", "web")["id"]
        wait_for(gate.exists, 60, "the copy runs")
        [copy] = [d for d in system.conn.listAllDomains() if "-te" in d.name()]
        xml = copy.XMLDesc()
        assert re.findall(r"<mac address='(.*?)'", xml) == mac
        [network] = re.findall(r"<source network='(.*?)'", xml)
        made = system.conn.networkLookupByName(network)
        assert network.startswith("hs-") and not made.isPersistent()
        assert not re.search("<forward|<ip", made.XMLDesc()), "nobody asked to reach it"
        bridge = made.bridgeName()
        assert bridge != system.conn.networkLookupByName("lan").bridgeName()
        ports = subprocess.run([*system.inside(), "ls", f"/sys/class/net/{bridge}/brif"],
                               capture_output=True, text=True, check=False).stdout.split()
        assert len(ports) <= 1
        gate.unlink()
        assert hs("task", "show", str(task), "--wait")["outcome"] == "ok"
        assert hs.left() == set()
    finally:
        hs.server.stop()


@pytest.mark.timeout(300)
def test_from_elsewhere_and_one_address_twice(system: SystemHost, tmp_path: Path,
                                              guest_factory: Callable[..., Guest]) -> None:
    """The DR machine is not in the host's network: what it cannot check is said. And a failover
    beside its running source is refused, unless its cables are out or it is allowed."""
    system.network("lan")
    guest = guest_factory(boot="kernel", dhcp=True)
    source = system.adopt(guest, network="lan")
    server = Server(tmp_path).start()
    name = f"{guest.name}-dr"
    try:
        with server.client() as client:
            client.add_platform("site", system.uri, options={"socket_dir": str(system.sockets)})
            wait_for(lambda: client.platform("site")["refreshed_at"], 60, "it is read")
            client.create_rule({"name": "web", "source": "site", "vm": guest.name, "target": "site",
                                "storage": "images", "replica_name": name})

            def done(task: int) -> Any:
                found = wait_for(lambda: t if (t := client.task(task))["state"] == "ended"
                                 else None, 150, f"task {task}")
                print(found["kind"], found["outcome"], found["error"])
                return (found["error"] or {}).get("code") or found["outcome"]

            assert done(client.start_rule("web")) == "ok"
            assert done(client.start_test("web", {"ports": [80]})) == "warning"
            [test] = client.tests("web")
            told = {c["name"]: (c["state"], c["code"]) for c in test["checks"]}
            assert told["tcp-80"] == ("skipped", "test.not-near"), told
            assert told["network"] == ("passed", "test.isolated")
            assert test["verdict"] == "unproven"
            server.stop()
            server.start("rehearsal.after-network:kill")
        with server.client() as client:
            task = client.start_test("web", {})
            server.wait_dead(60)
            server.start()
        with server.client() as client:
            assert done(task) == "ok"
            assert [n.name() for n in system.conn.listAllNetworks()] == ["lan"]

            assert done(client.failover("web", None)) == "failover.source-runs"
            assert client.rule("web")["failover_point"] is None
            assert source.isActive() and name not in {
                d.name() for d in system.conn.listAllDomains()}
            message = next(line["message"] for line in client.rule_log("web")
                           if line["code"] == "failover.source-runs")
            assert re.findall(r"<mac address='(.*?)'", source.XMLDesc())[0] in message

            assert done(client.failover("web", None, unplugged=True)) == "ok"
            assert "<link state='down'/>" in system.conn.lookupByName(name).XMLDesc()
            assert done(client.undo("web")) == "ok"
            assert done(client.failover("web", None, allow_duplicate_mac=True)) == "ok"
            xml = system.conn.lookupByName(name).XMLDesc()
            assert "network='lan'" in xml and "<link state='down'/>" not in xml
            codes = [line["code"] for line in client.rule_log("web")]
            assert codes.count("failover.source-running") == 2
            assert done(client.undo("web")) == "ok"
            source.destroy()
            assert done(client.failover("web", None)) == "ok", "it is alone now"
            assert done(client.undo("web")) == "ok"
    finally:
        server.stop()
