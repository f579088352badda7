"""The vSphere test bed keeps the rules of the real thing, as far as drivers meet them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import requests
from pyVmomi import vim, vmodl

from testbeds.kvm.procs import wait_for, wait_gone
from testbeds.vsphere.bed import PASSWORD, USER, Disk, Machine, Vsphere, disks_of, wait

MIB = 1 << 20
BLOCK = 64 * 1024
NBDSH = (sys.executable, "-m", "nbd", "-u")


@pytest.fixture
def machine(vsphere: Vsphere) -> Iterator[Machine]:
    yield from lent(vsphere)


def lent(bed: Vsphere, **options: Any) -> Iterator[Machine]:
    """A machine that runs, tracks its changes, and has something on its first disk."""
    made = bed.create_vm(f"vm-{os.urandom(3).hex()}", [(64, "LocalDS_0"), (32, "LocalDS_1")],
                         changeTrackingEnabled=True, **options)
    made.power_on()
    made.write(0, 3 * MIB, os.urandom(MIB))
    try:
        yield made
        assert bed.state()["leases"] == {}
    finally:
        bed.calm()
        made.writer(0)
        if made.vm.runtime.powerState == "poweredOn":
            made.power_off()
        wait(made.vm.Destroy_Task())


def snapshot(machine: Machine, name: str = "s", quiesce: bool = False) -> Any:
    return wait(machine.vm.CreateSnapshot_Task(name, "", False, quiesce))


def remove(snapshot: Any) -> None:
    wait(snapshot.RemoveSnapshot_Task(False, True))


def areas(machine: Machine, snapshot: Any, disk: Disk, since: str) -> list[tuple[int, int]]:
    found, at = [], 0
    while at < disk.size:
        page = machine.vm.QueryChangedDiskAreas(snapshot, disk.key, at, since)
        found += [(area.start, area.length) for area in page.changedArea]
        assert page.length > 0
        at = page.startOffset + page.length
    return found


@contextmanager
def served(bed: Vsphere, machine: Machine, disk: str, snapshot: Any = None, *, write: bool = False,
           environment: dict[str, str] | None = None, **change: str) -> Iterator[str]:
    """The disk over nbdkit: the address of its socket."""
    words = {"libdir": bed.built.libdir, "server": bed.host, "port": bed.port, "user": USER,
             "password": PASSWORD, "thumbprint": bed.thumbprint, "vm": f"moref={machine.moref}",
             "transports": "san:hotadd:nbdssl:nbd", "file": disk, **change}
    if snapshot is not None:
        words["snapshot"] = snapshot._moId
    with subprocess.Popen(
            ["nbdkit", "--foreground", "--exit-with-parent", "--unix", "-", *(
                [] if write else ["-r"]), "--run", 'echo "$uri"; read -r _', bed.built.plugin,
             *(f"{k}={v}" for k, v in words.items())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment or bed.environment()) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate("\n", timeout=20)


def read(uri: str, to: Path, *options: str) -> bytes:
    subprocess.run(["nbdcopy", *options, uri, to], check=True, capture_output=True)
    return to.read_bytes()


def refused(uri: str) -> bool:
    return subprocess.run(["nbdinfo", "--size", uri], check=False,
                          capture_output=True).returncode != 0


def disk_of(snapshot: Any, number: int = 0) -> Disk:
    return disks_of(snapshot.config)[number]


def test_what_a_snapshot_holds_stays_while_the_guest_writes(
        vsphere: Vsphere, machine: Machine, tmp_path: Path) -> None:
    """A full read and an incremental one, in pages, each equal to what was frozen."""
    machine.writer(200)
    first = snapshot(machine)
    held = {n: disk_of(first, n) for n in (0, 1)}
    copies = {}
    for number, disk in held.items():
        with served(vsphere, machine, disk.file, first) as uri:
            copies[number] = bytearray(read(uri, tmp_path / "full"))
        assert bytes(copies[number]) == machine.content(disk.file).read_bytes()
    for where in range(0, 60 * MIB, 5 * MIB):
        machine.write(0, where, b"x" * 100)
    second = snapshot(machine)
    for number, before in held.items():
        disk = disk_of(second, number)
        assert disk.file != before.file and disk.key == before.key == 2000 + number
        changed = areas(machine, second, disk, before.change_id)
        assert all(at % BLOCK == 0 for at, _ in changed)
        frozen = machine.content(disk.file).read_bytes()
        for at, length in changed:
            copies[number][at:at + length] = frozen[at:at + length]
        assert bytes(copies[number]) == frozen
    assert machine.snapshots() == ["s", "s"]
    machine.writer(0)
    now = machine.content(machine.disks[0].file).read_bytes()
    remove(first)
    remove(second)
    assert machine.snapshots() == [] and "-0000" not in machine.disks[0].file
    assert machine.content(machine.disks[0].file).read_bytes() == now


def test_pages_and_what_is_not_tracked(vsphere_factory: Callable[..., Vsphere]) -> None:
    bed = vsphere_factory(page=3)
    for machine in lent(bed):
        first = snapshot(machine)
        disk = disk_of(first)
        for where in range(10):
            machine.write(0, 6 * where * MIB, b"y")
        second = snapshot(machine)
        bed.forget()
        changed = areas(machine, second, disk, disk.change_id)
        assert [at for at, _ in changed] == [6 * n * MIB for n in range(10)]
        assert bed.state()["calls"]["QueryChangedDiskAreas"] == 4
        for wrong in ("*x", "52 00/1", disk.change_id.rpartition("/")[0] + "/99"):
            with pytest.raises(vmodl.fault.InvalidArgument):
                areas(machine, second, disk, wrong)
        machine.spoil_tracking()
        with pytest.raises(vmodl.fault.InvalidArgument):
            areas(machine, second, disk, disk.change_id)
        remove(second)
        remove(first)
        wait(machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=False)))
        untracked = snapshot(machine)
        assert disk_of(untracked).change_id == ""
        with pytest.raises(vim.fault.FileFault):
            areas(machine, untracked, disk, "*")
        remove(untracked)


def test_going_back_to_a_snapshot(machine: Machine) -> None:
    machine.write(0, 0, b"before")
    first = snapshot(machine)
    before = machine.content(disk_of(first).file).read_bytes()
    change_id = disk_of(first).change_id
    machine.write(0, 0, b"after!")
    wait(first.RevertToSnapshot_Task())
    assert machine.vm.runtime.powerState == "poweredOff"
    assert machine.content(machine.disks[0].file).read_bytes() == before
    later = snapshot(machine)
    with pytest.raises(vmodl.fault.InvalidArgument):
        areas(machine, later, disk_of(later), change_id)


def test_who_may_open_a_disk(vsphere: Vsphere, machine: Machine, tmp_path: Path) -> None:
    current = machine.disks[0].file
    first = snapshot(machine)
    frozen = disk_of(first).file
    for change in ({"thumbprint": ":".join(["00"] * 20)}, {"password": "wrong"},
                   {"file": "[LocalDS_0] x/y.vmdk"}, {"vm": "moref=vm-99999"},
                   {"transports": "hotadd"}):
        with served(vsphere, machine, frozen, first, **change) as uri:
            assert refused(uri), change
    with served(vsphere, machine, machine.disks[0].file, write=True) as uri:
        assert refused(uri), "it runs"
    with served(vsphere, machine, frozen, first, write=True) as uri:
        assert refused(uri), "of a snapshot"
    with served(vsphere, machine, frozen, first,
                environment=vsphere.environment(largest=str(MIB))) as uri, \
            pytest.raises(subprocess.CalledProcessError):
        read(uri, tmp_path / "x", f"--request-size={2 * MIB}")
    with served(vsphere, machine, frozen, first) as uri:
        holder = subprocess.Popen([*NBDSH, uri, "-c", "import time; time.sleep(60)"])
        wait_for(lambda: vsphere.state()["leases"], 10, "the disk is open")
        with pytest.raises(vim.fault.FileLocked):
            remove(first)
        assert machine.vm.runtime.consolidationNeeded
        holder.kill()
        holder.wait()
        wait_for(lambda: not vsphere.state()["leases"], 10, "it is closed")
    remove(first)
    wait(machine.vm.ConsolidateVMDisks_Task())
    assert not machine.vm.runtime.consolidationNeeded and machine.disks[0].file == current
    machine.power_off()
    vsphere.forget()
    with served(vsphere, machine, current, write=True) as uri:
        subprocess.run([*NBDSH, uri, "-c", "h.pwrite(b'w' * 65536, 0)"], check=True)
    assert machine.content(current).read_bytes()[:65536] == b"w" * 65536
    moved = vsphere.state()["traffic"]
    assert (moved["Written"], moved["Opened"], moved["Largest"]) == (65536, 1, 65536)


def test_an_open_disk_has_nfc_memory(vsphere_factory: Callable[..., Vsphere]) -> None:
    bed = vsphere_factory(nfc=4 * MIB)          # for one disk
    for machine in lent(bed):
        machine.power_off()
        one, two = (d.file for d in machine.disks)
        with served(bed, machine, one) as uri, served(bed, machine, two) as other:
            holder = subprocess.Popen([*NBDSH, uri, "-c", "import time; time.sleep(60)"])
            wait_for(lambda: bed.state()["leases"], 10, "the disk is open")
            assert refused(other)
            holder.kill()
            holder.wait()
            wait_for(lambda: not bed.state()["leases"], 10, "it is closed")
            assert not refused(other)


@pytest.mark.parametrize(("method", "name"), [
    ("CreateSnapshot_Task", "ApplicationQuiesceFault"), ("CreateSnapshot_Task", "FileFault"),
    ("RemoveSnapshot_Task", "FileLocked"), ("CreateSnapshot_Task", "TooManySnapshotLevels")])
def test_faults_of_tasks(vsphere: Vsphere, machine: Machine, method: str, name: str) -> None:
    kept = snapshot(machine)
    vsphere.fault(method, name)
    with pytest.raises(getattr(vim.fault, name)):
        remove(kept) if method == "RemoveSnapshot_Task" else snapshot(machine, quiesce=True)
    assert machine.snapshots() == ["s"]
    remove(kept)


def test_faults_of_calls_and_connections(vsphere: Vsphere, machine: Machine) -> None:
    first = snapshot(machine)
    disk = disk_of(first)
    vsphere.fault("QueryChangedDiskAreas", "FileFault", text="x-ctk.vmdk", skip=1)
    areas(machine, first, disk, "*")
    with pytest.raises(vim.fault.FileFault) as caught:
        areas(machine, first, disk, "*")
    assert caught.value.file == "x-ctk.vmdk"
    vsphere.fault("QueryChangedDiskAreas", "NotAuthenticated")
    with pytest.raises(vim.fault.NotAuthenticated):
        areas(machine, first, disk, "*")
    vsphere.fault("CreateSnapshot_Task", drop=True, after=True)
    with pytest.raises((OSError, HTTPException)):
        machine.vm.CreateSnapshot_Task("cut", "", False, False)
    assert machine.snapshots() == ["s", "cut"], "the work was done, and nobody heard of it"
    vsphere.full("LocalDS_1")
    with pytest.raises(vim.fault.NoDiskSpace):
        snapshot(machine)
    assert machine.snapshots() == ["s", "cut"]


def test_a_login_that_lacks_a_privilege(vsphere: Vsphere, machine: Machine) -> None:
    first = snapshot(machine)
    asked = ["VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot"]
    vsphere.deny(asked[0])
    vsphere.deny("VirtualMachine.Provisioning.DiskRandomRead")
    content = vsphere.connect().content
    [found] = content.authorizationManager.HasPrivilegeOnEntities(
        [machine.vm], content.sessionManager.currentSession.key, asked)
    assert [(p.privId, p.isGranted) for p in found.privAvailability] == [
        (asked[0], False), (asked[1], True)]
    with pytest.raises(vim.fault.NoPermission) as caught:
        snapshot(machine)
    assert caught.value.privilegeId == asked[0]
    with served(vsphere, machine, disk_of(first).file, first) as uri:
        assert refused(uri)
    remove(first)


def test_a_session_ends(vsphere_factory: Callable[..., Vsphere]) -> None:
    session = vsphere_factory(idle_s=0.3).connect()
    assert session.content.rootFolder.name
    time.sleep(1.0)
    with pytest.raises(vim.fault.NotAuthenticated):
        print(session.content.rootFolder.name)


def test_properties_in_pages(vsphere_factory: Callable[..., Vsphere]) -> None:
    content = vsphere_factory(machines=5).connect().content
    collector, filters = content.propertyCollector, vmodl.query.PropertyCollector
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    wanted = filters.FilterSpec(
        objectSet=[filters.ObjectSpec(obj=view, skip=True, selectSet=[filters.TraversalSpec(
            name="view", type=vim.view.ContainerView, path="view", skip=False)])],
        propSet=[filters.PropertySpec(type=vim.VirtualMachine, pathSet=[
            "name", "runtime.powerState", "config.hardware.device"])])
    sizes, names = [], set()
    page = collector.RetrievePropertiesEx([wanted], filters.RetrieveOptions(maxObjects=2))
    while True:
        sizes.append(len(page.objects))
        names |= {o.propSet[0].val if o.propSet[0].name == "name" else o.propSet[-1].val
                  for o in page.objects}
        if page.token is None:
            break
        page = collector.ContinueRetrievePropertiesEx(page.token)
    assert sizes == [2] * (len(view.view) // 2) + [1] * (len(view.view) % 2)
    assert len(names) == len(view.view) >= 5


@pytest.mark.parametrize("linked", [True, False])
def test_a_clone_of_a_snapshot(vsphere: Vsphere, machine: Machine, linked: bool) -> None:
    """It holds what the snapshot does, and its source stays as it is."""
    first = snapshot(machine)
    held = [machine.content(disk_of(first, n).file).read_bytes() for n in (0, 1)]
    machine.write(0, 0, b"later")
    before = machine.disks, disks_of(first.config)
    spec = vim.vm.CloneSpec(powerOn=False, template=False, snapshot=first,
                            location=vim.vm.RelocateSpec(
                                diskMoveType="createNewChildDiskBacking" if linked else None))
    made = Machine(vsphere, wait(machine.vm.CloneVM_Task(machine.vm.parent, "copy", spec)))
    assert (machine.disks, disks_of(first.config)) == before
    assert [d.key for d in made.disks] == [d.key for d in machine.disks]
    assert [made.content(d.file).read_bytes() for d in made.disks] == held
    parents = [d.backing.parent for d in made.vm.config.hardware.device
               if isinstance(d, vim.vm.device.VirtualDisk)]
    assert [p and p.fileName for p in parents] == (
        [d.file for d in disks_of(first.config)] if linked else [None, None])
    wait(made.vm.Destroy_Task())
    assert [machine.content(d.file).exists() for d in before[1]] == [True, True]


def test_a_disk_grows_and_a_machine_moves(vsphere: Vsphere, machine: Machine) -> None:
    change_id = disk_of(snapshot(machine)).change_id
    wait(machine.vm.RemoveAllSnapshots_Task())
    disk = next(d for d in machine.vm.config.hardware.device
                if isinstance(d, vim.vm.device.VirtualDisk))
    disk.capacityInKB, disk.capacityInBytes = 96 * 1024, 96 * MIB
    wait(machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
        vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])))
    assert machine.disks[0].size == 96 * MIB
    assert machine.content(machine.disks[0].file).stat().st_size == 96 * MIB
    later = snapshot(machine)
    with pytest.raises(vmodl.fault.InvalidArgument):
        areas(machine, later, disk_of(later), change_id)
    other = next(h for h in vsphere.view(vim.HostSystem) if h != machine.vm.runtime.host)
    wait(machine.vm.RelocateVM_Task(vim.vm.RelocateSpec(host=other)))
    assert machine.vm.runtime.host == other


def test_a_file_is_deleted(vsphere: Vsphere, machine: Machine) -> None:
    content, [datacenter] = vsphere.connect().content, vsphere.view(vim.Datacenter)
    content.fileManager.MakeDirectory("[LocalDS_1] hs-x", datacenter, True)
    wait(content.fileManager.DeleteDatastoreFile_Task("[LocalDS_1] hs-x", datacenter))
    with pytest.raises(vim.fault.FileNotFound):
        wait(content.fileManager.DeleteDatastoreFile_Task("[LocalDS_1] hs-x", datacenter))


def test_so_many_snapshots_and_no_more(machine: Machine) -> None:
    for _ in range(32):
        snapshot(machine)
    with pytest.raises(vim.fault.TooManySnapshotLevels):
        snapshot(machine)
    wait(machine.vm.RemoveAllSnapshots_Task())
    assert machine.snapshots() == []


def test_an_esxi_host_has_the_same(esxi: Vsphere, tmp_path: Path) -> None:
    assert esxi.connect().content.about.apiType == "HostAgent"
    for machine in lent(esxi, firmware="efi", controller="sata"):
        assert [d.key for d in machine.disks] == [16000, 16001]
        first = snapshot(machine)
        with served(esxi, machine, disk_of(first).file, first) as uri:
            found = read(uri, tmp_path / "full")
        assert found == machine.content(disk_of(first).file).read_bytes()
        remove(first)


def test_files_of_datastores(vsphere: Vsphere, machine: Machine) -> None:
    name = machine.disks[0].file.split("] ")[1].replace(".vmdk", "-flat.vmdk")
    url = f"https://{vsphere.host}:{vsphere.port}/folder/{name}?dcPath=DC0&dsName=LocalDS_0"

    def ask(auth: tuple[str, str] | None) -> requests.Response:
        return requests.get(url, auth=auth, verify=False, timeout=30)

    assert ask((USER, PASSWORD)).status_code == 500, "its machine runs"
    machine.power_off()
    assert ask(None).status_code == 401 == ask((USER, "wrong")).status_code
    assert ask((USER, PASSWORD)).content == machine.content(machine.disks[0].file).read_bytes()


def test_it_ends_with_who_started_it(tmp_path: Path) -> None:
    script = ("from testbeds.vsphere.bed import Vsphere\nimport sys, time\n"
              "with Vsphere() as v:\n    print(v.pid, flush=True)\n    time.sleep(60)\n")
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert wait_gone(pid, 5)


def test_many_machines_and_two_at_once(
        vsphere: Vsphere, vsphere_factory: Callable[..., Vsphere]) -> None:
    bed = vsphere_factory(machines=200)
    assert len(bed.view(vim.VirtualMachine)) >= 200
    assert (bed.thumbprint, bed.port) != (vsphere.thumbprint, vsphere.port)
    assert len(vsphere.view(vim.VirtualMachine)) < 200


def test_by_hand() -> None:
    """What `make testbed-vsphere` runs."""
    with subprocess.Popen([sys.executable, "-m", "testbeds.vsphere"], stdout=subprocess.PIPE,
                          text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
                          ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(7)]
        assert told[0].startswith("address     https://127.0.0.1:") and "Ctrl-C" in told[6]
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
