"""A machine of vSphere with a real operating system: the simulator has its disks, and what its
guest writes is what a guest of QEMU wrote to the same disks while the machine stood still."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbeds.vsphere.bed import PASSWORD, Machine, Vsphere, wait

from .rig import Rig, Server, content_of_raw, wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab

STEP = 64 * 1024
GIB_MIB = 1024


class Appliance:
    """``guest`` must be off, with raw disks of one GiB."""

    def __init__(self, bed: Vsphere, guest: Guest, firmware: str) -> None:
        self.bed, self.guest = bed, guest
        self.machine: Machine = bed.create_vm(
            guest.name, [(GIB_MIB, f"LocalDS_{n % 2}") for n in range(len(guest.disk_paths))],
            firmware="efi" if firmware == "uefi" else "bios")
        self.machine.power_on()
        self.machine.tools()
        self.catch_up()

    def catch_up(self) -> int:
        """Write to the machine's disks what its guest wrote meanwhile; the bytes."""
        written = 0
        for number, path in enumerate(self.guest.disk_paths):
            there = self.machine.content(self.machine.disks[number].file)
            with path.open("rb") as new, there.open("rb") as old:
                at = 0
                while piece := new.read(STEP):
                    if piece != old.read(STEP):
                        self.machine.write(number, at, piece)
                        written += len(piece)
                    at += STEP
        return written

    def work(self, records: int = 20) -> None:
        """Let the guest run for a while, and write."""
        self.guest.start()
        self.guest.wait_ready()
        self.guest.wait_agent()
        self.guest.wait_records(self.guest.journal_count() + records)
        self.guest.shutdown()
        assert self.catch_up()

    def remove(self) -> None:
        self.bed.calm()
        if self.machine.vm.runtime.powerState == "poweredOn":
            self.machine.power_off()
        wait(self.machine.vm.Destroy_Task())


def contents(machine: Machine) -> dict[str, str]:
    """What the disks of a machine hold now, by their ids."""
    return {f"disk-{disk.key}": content_of_raw(machine.content(disk.file))
            for disk in machine.disks}


def protect(lab: Lab, directory: Path, machine: Machine, guest: Any = None,
            **settings: object) -> Rig:
    """A server with both platforms, and a rule from vSphere to the second host. ``guest``: the
    handle on what runs in the machine."""
    rig = Rig(lab, Server(directory).start(), guest)
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
    return rig


