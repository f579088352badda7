"""Replicate a machine of (simulated) vSphere to KVM, fail over, undo, go on; then to another
vSphere, and home again. Leaves nothing behind.

The vCenter is a simulator with real disk content and changed block tracking; VMware's library is a
stand-in. What the machine's disks hold is a real operating system, and so is what boots on KVM.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

from pyVmomi import vim

from testbeds.kvm import Lab
from testbeds.vsphere.appliance import STEP, Appliance
from testbeds.vsphere.bed import PASSWORD, USER, Machine, Vsphere

from .stage import Console, DemoError, play, say, tell_points, title

MACHINE = "erp01"


def story(lab: Lab, console: Console, points_wanted: int) -> None:
    with Vsphere() as vsphere:
        _story(lab, console, points_wanted, vsphere)


def _story(lab: Lab, console: Console, points_wanted: int, vsphere: Vsphere) -> None:
    began = time.monotonic()
    title("1. A machine at vSphere, with a real operating system on its two disks")
    guest = lab.define_guest(lab.a, MACHINE, rate=20.0, disks=2, fmt="raw")
    appliance = Appliance(vsphere, guest, "bios")
    appliance.work()
    say(f"  {MACHINE} runs at vSphere; it has {appliance.records} hash-chained records")

    title("2. Hotspare: the vCenter shows its certificate, and is trusted when you say so")
    console.up()
    address = f"https://{vsphere.host}:{vsphere.port}"
    stand_ins = [w for name in ("vddk_libdir", "vddk_plugin")
                 for w in ("--option", f"{name}={vsphere.access().options[name]}")]
    secret = {"HOTSPARE_PLATFORM_PASSWORD": PASSWORD}
    console.run("platform", "add", "vcenter", address, "--user", USER, "--password", *stand_ins,
                fails=True, **secret)
    console.run("platform", "edit", "vcenter", "--set", f"thumbprint={vsphere.thumbprint}")
    console.run("platform", "refresh", "vcenter")
    console.run("platform", "vms", "vcenter")
    console.run("platform", "add", "site-b", lab.b.uri)

    title("3. A rule from vSphere to KVM: a full copy, then only what changed block tracking tells")
    console.run("rule", "create", "erp", "--source", "vcenter", "--vm", MACHINE, "--target",
                "site-b", "--storage", lab.pool_name(lab.b), "--network", "VM Network=user")
    for _ in range(points_wanted):
        console.run("rule", "start", "erp", "--wait")
        appliance.work()
    points = console.points("erp")
    tell_points(points)

    title("4. Failover: the copy boots on KVM, on devices that its system has drivers for")
    console.run("failover", "erp", "--point", str(points[-1]["number"]), "--wait")
    verified = lab.guest(lab.b, MACHINE).wait_ready()
    say(f"  the copy has booted on KVM; VERIFY records={verified.records} "
        f"bad={int(verified.bad)} disks={verified.disks}")
    if verified.bad or verified.disks != 2:
        raise DemoError(f"the copy is broken: {verified}")

    title("5. Undo, and on with what changed since")
    console.run("undo", "erp", "--wait")
    console.run("rule", "start", "erp", "--wait")
    tell_points(console.points("erp")[-1:])
    if appliance.machine.snapshots():
        raise DemoError(f"snapshots are left at vSphere: {appliance.machine.snapshots()}")
    say("  no snapshot of ours is left at vSphere")

    with Vsphere() as second:
        _to_vsphere(console, appliance.machine, second)

    title("8. What was done")
    console.run("task", "list")
    say(f"\n  {time.monotonic() - began:.0f} s in all.")
    say("  By hand: make testbed-vsphere, then docs/user/vsphere.md.")


def _to_vsphere(console: Console, machine: Machine, second: Vsphere) -> None:
    title("6. The same machine to another vSphere, where its restore points are snapshots")
    console.run("rule", "delete", "erp", "--delete-replica", "--yes", "--wait")
    access = second.access()
    words = [w for name, value in access.options.items() if name != "user"
             for w in ("--option", f"{name}={value}")]
    console.run("platform", "add", "vcenter2", access.uri, "--user", USER, "--password", *words,
                HOTSPARE_PLATFORM_PASSWORD=PASSWORD)
    console.run("platform", "refresh", "vcenter2")
    console.run("rule", "create", "erp", "--source", "vcenter", "--vm", MACHINE, "--target",
                "vcenter2", "--host", "DC0_C0_H0", "--storage", "LocalDS_0", "--network",
                "VM Network=VM Network")
    console.run("rule", "start", "erp", "--wait")
    machine.write(1, STEP, os.urandom(STEP))
    console.run("failover", "erp", "--planned", "--power-off", "--wait")
    tell_points(console.points("erp"))
    replica = next(Machine(second, vm) for vm in second.view(vim.VirtualMachine)
                   if vm.name.startswith(MACHINE))
    say(f"  {replica.vm.name} runs at the second vSphere: {replica.vm.runtime.powerState}")
    for place in range(4):
        replica.write(0, place * 9 * STEP, os.urandom(STEP))
    say("  and has written something")

    title("7. Home again: what the replica wrote goes back, and the source runs with it")
    console.run("failback", "start", "erp", "--wait")
    console.run("failback", "switch", "erp", "--power-off", "--wait")
    if _content(machine) != _content(replica):
        raise DemoError("the source is not what the replica was")
    say("  the source runs again, block by block what the replica was")
    console.run("failback", "commit", "erp", "--wait")
    console.run("rule", "start", "erp", "--wait")
    if machine.snapshots():
        raise DemoError(f"snapshots are left at vSphere: {machine.snapshots()}")


def _content(machine: Machine) -> list[str]:
    found = []
    for disk in machine.disks:
        with machine.content(disk.file).open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found


if __name__ == "__main__":
    sys.exit(play(story, __doc__ or ""))
