"""A machine of vSphere with a real operating system: the simulator has its disks, and what its
guest writes is what a guest of QEMU wrote to the same disks while the machine stood still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bed import Machine, Vsphere, wait

if TYPE_CHECKING:
    from testbeds.kvm import Guest

STEP = 64 * 1024
GIB_MIB = 1024


class Appliance:
    """``guest`` must be off, with raw disks of one GiB."""

    def __init__(self, bed: Vsphere, guest: Guest, firmware: str) -> None:
        self.bed, self.guest = bed, guest
        self.records = 0        # that the guest wrote, when it ran last
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
        self.records = self.guest.wait_records(self.guest.journal_count() + records)
        self.guest.shutdown()
        assert self.catch_up()

    def remove(self) -> None:
        self.bed.calm()
        if self.machine.vm.runtime.powerState == "poweredOn":
            self.machine.power_off()
        wait(self.machine.vm.Destroy_Task())
