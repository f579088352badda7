"""One vCenter or ESXi host of the test bed.

    with Vsphere() as vsphere:
        vm = vsphere.create_vm("web", disks=[(64, "LocalDS_0")])
        connect(vsphere.access())

What a guest has beyond its disks there is not: no screen, no ports, and VMware Tools answer, with
their heartbeat, where a test says so (:meth:`Machine.tools`).
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, cast
from uuid import uuid4

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from hotspare.platforms.port import PlatformAccess

from ..kvm.errors import TestbedError
from .build import Built, build

USER, PASSWORD = "administrator@vsphere.local", "canary-vsphere-77b2"
Controller = Literal["pvscsi", "lsilogic", "sata", "nvme"]

_CONTROLLERS: dict[Controller, Any] = {
    "pvscsi": vim.vm.device.ParaVirtualSCSIController,
    "lsilogic": vim.vm.device.VirtualLsiLogicController,
    "sata": vim.vm.device.VirtualAHCIController,
    "nvme": vim.vm.device.VirtualNVMEController}


class _Task(Protocol):
    info: Any


def wait(task: _Task, timeout_s: float = 30.0) -> Any:
    """The task's result; raises its fault."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        info = task.info
        if info.state == "success":
            return info.result
        if info.state == "error":
            raise info.error
        time.sleep(0.01)
    raise TestbedError(f"A task of vSphere did not end within {timeout_s:.0f} s.",
                       "Look at the simulator's log.")


@dataclass(frozen=True)
class Disk:
    key: int
    size: int                       # bytes
    file: str                       # "[datastore] folder/disk.vmdk"
    change_id: str


class Machine:
    """A handle on a virtual machine, as the tests see it."""

    def __init__(self, bed: Vsphere, vm: Any) -> None:
        self.bed, self.vm = bed, vm

    @property
    def moref(self) -> str:
        return str(self.vm._moId)

    @property
    def uuid(self) -> str:
        """The lasting id: its instance uuid."""
        return str(self.vm.config.instanceUuid)

    @property
    def disks(self) -> list[Disk]:
        return disks_of(self.vm.config)

    def content(self, file: str) -> Path:
        """Where a file of a disk lies on this machine."""
        store, path = file[1:].split("] ", 1)
        found = next(ds for ds in self.bed.datastores() if ds.name == store)
        return Path(found.info.url, f"{path.removesuffix('.vmdk')}-flat.vmdk")

    def write(self, disk: int, offset: int, data: bytes) -> None:
        """As the guest would: to the disk's current file, never across a snapshot."""
        self.bed.control(f"write?vm={self.moref}&key={self.disks[disk].key}&offset={offset}", data)

    def writer(self, rate: float) -> None:
        """While it runs, the guest writes a block at a random place of each disk so many times a
        second; 0 ends that."""
        self.bed.control(f"writer?vm={self.moref}&rate={rate}")

    def tools(self, on: bool = True) -> None:
        """VMware Tools answer in the guest, or do not."""
        self.bed.control(f"tools?vm={self.moref}&on={int(on)}")

    def power_on(self) -> None:
        wait(self.vm.PowerOnVM_Task())

    def power_off(self) -> None:
        wait(self.vm.PowerOffVM_Task())

    def spoil_tracking(self) -> None:
        """As a power loss of its host or a move to another datastore does."""
        self.bed.control(f"spoil?vm={self.moref}")

    def snapshots(self) -> list[str]:
        """Names of all its snapshots, parents first."""
        def names(trees: Any) -> list[str]:
            return [n for t in trees for n in [t.name, *names(t.childSnapshotList)]]

        return [] if self.vm.snapshot is None else names(self.vm.snapshot.rootSnapshotList)


def disks_of(config: Any) -> list[Disk]:
    return [Disk(d.key, d.capacityInBytes, d.backing.fileName, d.backing.changeId or "")
            for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]


class Vsphere:
    """The simulator as a process, which ends with this one: its standard input is a pipe of ours.
    ``esx``: one ESXi host instead of a vCenter with a cluster."""

    def __init__(self, *, esx: bool = False, hosts: int = 2, datastores: int = 2, page: int = 2000,
                 machines: int = 0, delay_s: float = 0.0, idle_s: float = 0.0, nfc: int = 48 << 20,
                 api: str = "8.0.2.0") -> None:
        self.built: Built = build()
        self._arguments = [
            f"-esx={str(esx).lower()}", f"-hosts={hosts}", f"-stores={datastores}",
            f"-page={page}", f"-machines={machines}", f"-delay={delay_s}s", f"-idle={idle_s}s",
            f"-nfc={nfc}", f"-api={api}", f"-user={USER}", f"-password={PASSWORD}"]
        self.esx = esx
        self._process: subprocess.Popen[str] | None = None
        self._session: Any = None
        self.host, self.port, self.thumbprint = "", 0, ""

    def __enter__(self) -> Vsphere:
        self._process = subprocess.Popen(
            [self.built.simulator, *self._arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise TestbedError("The simulator of vSphere did not start.",
                               f"Run it by hand: {self.built.simulator}")
        ready = json.loads(line)
        self.host, _, port = ready["address"].partition(":")
        self.port, self.thumbprint = int(port), ready["sha1"]
        self._session = self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._session is not None:
            try:
                Disconnect(self._session)
            except (OSError, vim.fault.VimFault):
                pass                # it is about to end anyway
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    # --- as others see it ------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def access(self, ident: str = "vsphere", **options: str) -> PlatformAccess:
        return PlatformAccess(
            ident, "vsphere", f"https://{self.host}:{self.port}/sdk",
            {"user": USER, "thumbprint": self.thumbprint, "vddk_libdir": str(self.built.libdir),
             "vddk_plugin": str(self.built.plugin), **options}, PASSWORD)

    def connect(self, user: str = USER, password: str = PASSWORD) -> Any:
        """A session of pyVmomi; the certificate is not looked at."""
        return SmartConnect(host=self.host, port=self.port, user=user, pwd=password,
                            sslContext=ssl._create_unverified_context())

    def view(self, kind: Any) -> list[Any]:
        """All objects of a kind."""
        content = self._session.content
        found = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
        try:
            return list(found.view)
        finally:
            found.Destroy()

    def datastores(self) -> list[Any]:
        return self.view(vim.Datastore)

    # --- machines --------------------------------------------------------------------------------

    def create_vm(self, name: str, disks: Sequence[tuple[int, str]] = ((64, "LocalDS_0"),), *,
                  firmware: Literal["bios", "efi"] = "bios", controller: Controller = "pvscsi",
                  network: str = "VM Network", mac: str = "", **config: Any) -> Machine:
        """Off, with disks of (MiB, datastore) at one controller and one network card."""
        devices = [_add(_controller(controller))]
        for unit, (mib, store) in enumerate(disks):
            devices.append(_add(vim.vm.device.VirtualDisk(
                key=-100 - unit, controllerKey=-1, unitNumber=unit, capacityInKB=mib * 1024,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName=f"[{store}]",
                    diskMode="persistent", thinProvisioned=True)), "create"))
        devices.append(_add(vim.vm.device.VirtualVmxnet3(
            key=-200, addressType="manual" if mac else "generated", macAddress=mac or None,
            backing=vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName=network))))
        spec = vim.vm.ConfigSpec(
            name=name, uuid=str(uuid4()), instanceUuid=str(uuid4()), memoryMB=512, numCPUs=2,
            guestId="debian11_64Guest", firmware=firmware,
            files=vim.vm.FileInfo(vmPathName=f"[{disks[0][1]}]"),
            deviceChange=devices, **config)
        host = self.view(vim.HostSystem)[0]
        datacenter = self.view(vim.Datacenter)[0]
        made = wait(datacenter.vmFolder.CreateVM_Task(spec, host.parent.resourcePool, host))
        return Machine(self, made)

    # --- what goes wrong, and what was seen ------------------------------------------------------

    def fault(self, method: str, fault: str = "", *, text: str = "", count: int = 1, skip: int = 0,
              drop: bool = False, after: bool = False, wait_s: float = 0.0) -> None:
        """The next ``count`` calls of ``method`` (a SOAP name, ``folder``, ``vddk-open``), after
        ``skip`` good ones, end with this fault of vSphere, or with a connection that is cut
        (``drop``), before or ``after`` the work is done."""
        self.control("fault", json.dumps({
            "Method": method, "Fault": fault, "Text": text, "Count": count, "Skip": skip,
            "Drop": drop, "After": after, "Wait": wait_s}).encode())

    def full(self, datastore: str, on: bool = True) -> None:
        self.control(f"full?datastore={datastore}&on={int(on)}")

    def deny(self, privilege: str) -> None:
        """The login has it no more."""
        self.control(f"deny?privilege={privilege}")

    def calm(self) -> None:
        """No fault is left, no datastore is full, and the login may do everything."""
        self.control("calm")

    def state(self) -> dict[str, Any]:
        """``calls`` by method, ``leases`` of disks that are open, ``traffic`` of those that were
        closed: Opened, Requests, Read, Written, Largest, MostOpen, MostBuffered (bytes)."""
        return cast("dict[str, Any]", json.loads(self.control("state")))

    def forget(self) -> None:
        """Calls and traffic are counted from now on."""
        self.control("forget")

    def control(self, what: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"https://{self.host}:{self.port}/_bed/{what}", data)
        with urllib.request.urlopen(request, context=ssl._create_unverified_context(),
                                    timeout=30) as answer:
            return cast(bytes, answer.read())

    def environment(self, **settings: str) -> dict[str, str]:
        """For nbdkit with the stand-in: ``transports``, ``largest``."""
        return dict(os.environ) | {f"HS_VDDK_{k.upper()}": v for k, v in settings.items()}


def _controller(kind: Controller) -> Any:
    made = _CONTROLLERS[kind](key=-1, busNumber=0)
    if isinstance(made, vim.vm.device.VirtualSCSIController):
        made.sharedBus = "noSharing"
    return made


def _add(device: Any, file: str | None = None) -> Any:
    return vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation=file, device=device)
