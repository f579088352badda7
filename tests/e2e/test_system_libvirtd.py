"""Replication from and to a privileged libvirtd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .rig import Server, wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab

    from .system_host import SystemHost


def test_both_ways(system: SystemHost, lab: Lab, guest_factory: Callable[..., Guest],
                   tmp_path: Path) -> None:
    lab.a.start()
    lab.b.start()
    first, second = guest_factory(boot="kernel"), guest_factory(boot="kernel")
    domain = system.adopt(first)
    second.start()
    second.wait_ready()
    server = Server(tmp_path).start()
    try:
        with server.client() as client:
            client.add_platform("system", system.uri, options={"socket_dir": str(system.sockets)})
            for name, host in (("a", lab.a), ("b", lab.b)):
                client.add_platform(name, host.uri)
            wait_for(lambda: all(p["refreshed_at"] for p in client.platforms()), 60, "refreshed")

            def done(task: int) -> None:
                found = wait_for(lambda: t if (t := client.task(task))["state"] == "ended"
                                 else None, 120, f"task {task}")
                assert found["outcome"] == "ok", found["error"]

            for source, vm, target, storage in (
                    ("system", first.name, "b", lab.pool_name(lab.b)),
                    ("a", second.name, "system", "images")):
                client.create_rule({"name": vm, "source": source, "vm": vm, "target": target,
                                    "storage": storage, "retention": 2})
                for _ in range(3):
                    done(client.start_rule(vm))
                numbers = [p["number"] for p in client.points(vm)]
                assert numbers == [3, 2]
                done(client.failover(vm, 2))
                if target == "system":
                    assert system.conn.lookupByName(vm).isActive()
                done(client.undo(vm))
                done(client.start_rule(vm))
                done(client.delete_rule(vm, True, False))
        assert domain.isActive(), "the source runs on"
        assert domain.listAllCheckpoints() == []
        assert {p.name for p in system.images.iterdir()} == {p.name for p in first.disk_paths}
        assert list(system.sockets.iterdir()) == []
    finally:
        server.stop()
