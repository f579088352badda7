"""Machines of vSphere as the source of a whole Hotspare's rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbeds.vsphere.bed import PASSWORD, Machine

from .rig import Rig, Server, content_of_raw, wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Lab


def contents(machine: Machine) -> dict[str, str]:
    """What the disks of a machine hold now, by their ids."""
    return {f"disk-{disk.key}": content_of_raw(machine.content(disk.file))
            for disk in machine.disks}


def protect(lab: Lab, directory: Path, machine: Machine, guest: Any = None,
            **settings: object) -> Rig:
    """A server with both platforms, and a rule from vSphere to the second host. ``guest``: the
    handle on what runs in the machine."""
    rig = Rig(lab, Server(directory).start(), guest)
    try:
        _protect(rig, lab, machine, settings)
    except BaseException:
        rig.server.stop()
        raise
    return rig


def _protect(rig: Rig, lab: Lab, machine: Machine, settings: dict[str, object]) -> None:
    with rig.server.client() as client:
        access = machine.bed.access()
        client.add_platform("vcenter", access.uri, kind="vsphere", options=dict(access.options),
                            secret=PASSWORD)
        client.add_platform("site-b", lab.b.uri)
        wait_for(lambda: all(p["refreshed_at"] for p in client.platforms()), 60,
                 "both platforms are read")
        rule = client.create_rule({
            "name": rig.rule, "source": "vcenter", "vm": machine.vm.name, "target": "site-b",
            "storage": rig.storage, "networks": {"VM Network": "user"}, **settings})
        rig.rule_id = rule["id"]
