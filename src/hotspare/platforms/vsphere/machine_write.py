"""What a machine of vSphere is rebuilt from: a :class:`VmDescription` as a configuration.

Only what the model holds gets there. Cards are not connected until a failover says so, and are on
the target's networks by their names. Disks are placed by :class:`Slots`, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyVmomi import vim

from ...domain.errors import Refused
from ...domain.machine import DiskSpec, NicSpec, VmDescription
from .connection import Connection

_DEVICE = vim.vm.device
_MIB = 1024 * 1024
_NETWORK_CARDS: Mapping[str, Any] = {
    "vmxnet3": _DEVICE.VirtualVmxnet3, "vmxnet2": _DEVICE.VirtualVmxnet2,
    "e1000e": _DEVICE.VirtualE1000e, "e1000": _DEVICE.VirtualE1000,
    "pcnet": _DEVICE.VirtualPCNet32}
_SCSI = (_DEVICE.VirtualSCSIController, tuple(n for n in range(16) if n != 7))
_CONTROLLERS: Mapping[tuple[str, str], Any] = {
    ("scsi", "pvscsi"): _DEVICE.ParaVirtualSCSIController,
    ("scsi", "lsisas1068"): _DEVICE.VirtualLsiLogicSASController,
    ("scsi", "lsilogic"): _DEVICE.VirtualLsiLogicController,
    ("scsi", "buslogic"): _DEVICE.VirtualBusLogicController,
    ("nvme", ""): _DEVICE.VirtualNVMEController, ("sata", ""): _DEVICE.VirtualAHCIController,
    ("ide", ""): _DEVICE.VirtualIDEController}
_FIRST_KEYS: Mapping[str, tuple[int, int]] = {  # of a family's disks, and how far buses are apart
    "scsi": (2000, 16), "nvme": (32000, 15), "sata": (16000, 30), "ide": (3000, 2)}
_UNITS: Mapping[str, tuple[Any, Sequence[int], int]] = {    # family, units, controllers at most
    "scsi": (*_SCSI, 4), "nvme": (_DEVICE.VirtualNVMEController, range(15), 4),
    "sata": (_DEVICE.VirtualSATAController, range(30), 4),
    "ide": (_DEVICE.VirtualIDEController, range(2), 2)}


def machine_spec(connection: Connection, vm: VmDescription, name: str,
                 networks: Mapping[str, str]) -> Any:
    """All but the disks. Raises Refused ``target.virt``, ``target.network``."""
    if vm.virt != "vmware":
        raise Refused("target.virt", virt=vm.virt, offered="vmware")
    known = _networks(connection)
    return vim.vm.ConfigSpec(
        name=name, uuid=vm.uuid, memoryMB=vm.memory // _MIB, numCPUs=vm.vcpus,
        numCoresPerSocket=max(1, vm.cpu.cores), guestId=vm.guest or "otherGuest64",
        version=vm.machine or None, firmware="bios" if vm.firmware == "bios" else "efi",
        bootOptions=vim.vm.BootOptions(efiSecureBootEnabled=vm.firmware == "efi-secure"),
        deviceChange=[_added(_card(nic, -200 - place, networks, known))
                      for place, nic in enumerate(vm.nics)])


def cards_changed(devices: Sequence[Any], cards: Sequence[Any], connected: bool) -> list[Any]:
    """Edits that put these new cards in the place of those that a machine has."""
    connect_cards(cards, connected)
    return [vim.vm.device.VirtualDeviceSpec(operation="remove", device=d) for d in devices
            if isinstance(d, _DEVICE.VirtualEthernetCard)] + list(cards)


def connect_cards(edits: Sequence[Any], connected: bool) -> None:
    """Cables of new cards in or out, also at the next start."""
    for edit in edits:
        edit.device.connectable.startConnected = edit.device.connectable.connected = connected


def reconfigure(connection: Connection, machine: Any, spec: Any) -> None:
    with connection.calls(vm=machine._moId):
        task = machine.ReconfigVM_Task(spec)
    connection.wait(task, vm=machine._moId)


def check_places(disks: Sequence[DiskSpec]) -> None:
    """Raises Refused ``target.too-many-disks`` when a new machine has no place for all of them."""
    slots = Slots.of_new_machine()
    for disk in disks:
        slots.take(disk)


def _networks(connection: Connection) -> dict[str, tuple[Any, Any]]:
    return {str(values["name"]): (obj, values)
            for obj, values in connection.collect(vim.Network, ["name"])}


def _card(nic: NicSpec, key: int, networks: Mapping[str, str],
          known: Mapping[str, tuple[Any, Any]]) -> Any:
    return _NETWORK_CARDS.get(nic.model, _DEVICE.VirtualE1000)(
        key=key, addressType="manual" if nic.mac else "generated", macAddress=nic.mac or None,
        backing=_backing(nic, networks, known),
        connectable=_DEVICE.VirtualDevice.ConnectInfo(
            startConnected=False, connected=False, allowGuestControl=True))


def _backing(nic: NicSpec, networks: Mapping[str, str],
             known: Mapping[str, tuple[Any, Any]]) -> Any:
    name = networks.get(nic.network, nic.network)
    if name not in known:
        raise Refused("target.network", network=nic.network, mapped=name,
                      present=", ".join(sorted(known)))
    network, _ = known[name]
    if isinstance(network, vim.dvs.DistributedVirtualPortgroup):
        switch: Any = network.config.distributedVirtualSwitch
        return _DEVICE.VirtualEthernetCard.DistributedVirtualPortBackingInfo(
            port=vim.dvs.PortConnection(portgroupKey=network.key, switchUuid=switch.uuid))
    return _DEVICE.VirtualEthernetCard.NetworkBackingInfo(deviceName=name)


def _added(device: Any, file: str | None = None) -> Any:
    return vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation=file, device=device)


Slot = tuple[str, int, int]
"""Where a disk is: family of its controller (scsi, nvme, sata, ide), bus and unit."""


def slots_of(devices: Sequence[Any]) -> dict[Slot, Any]:
    """The disks of a machine by their places."""
    controllers = {int(d.key): d for d in devices if isinstance(d, _DEVICE.VirtualController)}
    found: dict[Slot, Any] = {}
    disk: Any
    for disk in (d for d in devices if isinstance(d, _DEVICE.VirtualDisk)):
        controller = controllers.get(disk.controllerKey)
        family = next((bus for bus, (kind, *_) in _UNITS.items()
                       if isinstance(controller, kind)), "")
        if controller is not None:
            found[family, int(controller.busNumber), int(disk.unitNumber)] = disk
    return found


class Slots:
    """The places for disks that a machine has, and those that it may still get."""

    def __init__(self, devices: Sequence[Any]) -> None:
        self.edits: list[Any] = []
        """New controllers, to be added before the disks."""
        self._controllers = [d for d in devices if isinstance(d, _DEVICE.VirtualController)]
        self._taken = {(d.controllerKey, d.unitNumber) for d in devices
                       if d.controllerKey is not None and d.unitNumber is not None}

    @classmethod
    def of_new_machine(cls) -> Slots:
        """It has its two IDE controllers from the beginning."""
        return cls([_DEVICE.VirtualIDEController(key=200 + n, busNumber=n) for n in range(2)])

    def take(self, disk: DiskSpec) -> tuple[int, Slot]:
        """Key of the controller (negative: a new one) and place for a disk. Raises Refused
        ``target.too-many-disks``."""
        bus = disk.bus if disk.bus in _UNITS else "scsi"
        family, units, most = _UNITS[bus]
        kind = _CONTROLLERS.get((bus, disk.controller)) or (
            _CONTROLLERS["scsi", "pvscsi"] if bus == "scsi" else _CONTROLLERS[bus, ""])
        for controller in self._controllers:
            if isinstance(controller, kind):
                for unit in self._preferred(disk, bus, controller, units):
                    if (controller.key, unit) not in self._taken:
                        self._taken.add((controller.key, unit))
                        return controller.key, (bus, int(controller.busNumber), unit)
        buses = {c.busNumber for c in self._controllers if isinstance(c, family)}
        wanted = _told(bus, disk)
        free = [n for n in range(most) if n not in buses]
        free.sort(key=lambda n: wanted is None or n != wanted[0])
        if not free or bus == "ide":    # a machine has its two of these from the beginning
            raise Refused("target.too-many-disks", disk=disk.id, bus=bus)
        made = kind(key=-10 - len(self.edits), busNumber=free[0])
        if bus == "scsi":
            made.sharedBus = "noSharing"
        self.edits.append(_added(made))
        self._controllers.append(made)
        unit = self._preferred(disk, bus, made, units)[0]
        self._taken.add((made.key, unit))
        return made.key, (bus, free[0], unit)

    @staticmethod
    def _preferred(disk: DiskSpec, bus: str, controller: Any,
                   units: Sequence[int]) -> Sequence[int]:
        """First that which gives the disk the key that its id tells: it keeps its id."""
        wanted = _told(bus, disk)
        if wanted is None or wanted[0] != controller.busNumber or wanted[1] not in units:
            return units
        return [wanted[1], *(u for u in units if u != wanted[1])]


def _told(bus: str, disk: DiskSpec) -> tuple[int, int] | None:
    """Bus and unit that a host numbers a disk of that id for; None: the id is of another kind."""
    kind, _, key = disk.id.partition("-")
    if kind != "disk" or not key.isdecimal():
        return None
    begin, apart = _FIRST_KEYS[bus]
    return divmod(int(key) - begin, apart)


def new_disk(disk: DiskSpec, key: int, controller: int, unit: int, storage: str,
             file: str = "") -> Any:
    """A thin, empty one whose file's name is the host's choice, or one with what is in ``file``.
    ``key``: a negative number."""
    return _added(_DEVICE.VirtualDisk(
        key=key, controllerKey=controller, unitNumber=unit, capacityInKB=-(-disk.size // 1024),
        backing=_DEVICE.VirtualDisk.FlatVer2BackingInfo(
            fileName=file or f"[{storage}]", diskMode="persistent", thinProvisioned=True)),
        None if file else "create")


def child_disk(device: Any, key: int, controller: int, unit: int, storage: str) -> Any:
    """A new disk that holds what is written to it, over what another one holds."""
    return _added(_DEVICE.VirtualDisk(
        key=key, controllerKey=controller, unitNumber=unit, capacityInKB=device.capacityInKB,
        backing=_DEVICE.VirtualDisk.FlatVer2BackingInfo(
            fileName=f"[{storage}]", diskMode="persistent", thinProvisioned=True,
            parent=_DEVICE.VirtualDisk.FlatVer2BackingInfo(
                fileName=device.backing.fileName, diskMode="persistent"))), "create")


def removed_disk(device: Any, destroy: bool = False) -> Any:
    """``destroy``: with its file, which no snapshot may hold."""
    return vim.vm.device.VirtualDeviceSpec(
        operation="remove", fileOperation="destroy" if destroy else None, device=device)
