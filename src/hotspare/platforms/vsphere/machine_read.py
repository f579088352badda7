"""A machine of vSphere as a :class:`VmDescription`: what is not understood is refused or dropped.

Reads ``config`` (VirtualMachineConfigInfo), of the machine or of a snapshot. Dropped things are
named in ``warnings``. Refusals are for what a snapshot does not hold or a replica cannot be given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pyVmomi import vim

from ...domain.errors import Refused
from ...domain.machine import CpuSpec, DiskSpec, Firmware, NicSpec, Power, VmDescription
from ...domain.messages import text_of

_DEVICE = vim.vm.device
_MIB = 1024 * 1024
_CONTROLLERS: tuple[tuple[Any, str, str], ...] = (      # class, bus, model
    (_DEVICE.ParaVirtualSCSIController, "scsi", "pvscsi"),
    (_DEVICE.VirtualLsiLogicSASController, "scsi", "lsisas1068"),
    (_DEVICE.VirtualLsiLogicController, "scsi", "lsilogic"),
    (_DEVICE.VirtualBusLogicController, "scsi", "buslogic"),
    (_DEVICE.VirtualNVMEController, "nvme", ""),
    (_DEVICE.VirtualSATAController, "sata", ""),
    (_DEVICE.VirtualIDEController, "ide", ""))
_NICS: tuple[tuple[Any, str], ...] = (
    (_DEVICE.VirtualVmxnet3, "vmxnet3"), (_DEVICE.VirtualVmxnet2, "vmxnet2"),
    (_DEVICE.VirtualE1000e, "e1000e"), (_DEVICE.VirtualE1000, "e1000"),
    (_DEVICE.VirtualPCNet32, "pcnet"))
_BACKINGS = (_DEVICE.VirtualDisk.FlatVer2BackingInfo, _DEVICE.VirtualDisk.SeSparseBackingInfo,
             _DEVICE.VirtualDisk.RawDiskMappingVer1BackingInfo)
# what every machine has, or has no effect on what the guest finds on its disks
_REBUILT = (_DEVICE.VirtualController, _DEVICE.VirtualDisk, _DEVICE.VirtualEthernetCard,
            _DEVICE.VirtualKeyboard, _DEVICE.VirtualPointingDevice, _DEVICE.VirtualVideoCard,
            _DEVICE.VirtualVMCIDevice, _DEVICE.VirtualSoundCard)
_POWER: Mapping[str, Power] = {"poweredOn": "running", "suspended": "paused"}
_WINDOWS = re.compile(r"win", re.IGNORECASE)


def power_named(state: str) -> Power:
    """A suspended machine is called paused: its disks are as it left them."""
    return _POWER.get(state, "off")


def disk_id(device: Any) -> str:
    return f"disk-{device.key}"


def disks_of(devices: Iterable[Any]) -> Iterator[Any]:
    """Those that are disks, by their keys."""
    yield from sorted((d for d in devices if isinstance(d, _DEVICE.VirtualDisk)),
                      key=lambda d: int(d.key))


def size_of(device: Any) -> int:
    """Bytes of a disk."""
    return int(device.capacityInBytes or device.capacityInKB * 1024)


def refuse(name: str, devices: Sequence[Any], *, template: bool, fault_tolerant: bool,
           encrypted: bool) -> None:
    """Raises Refused with the reason why a machine cannot be protected."""
    for wrong, code in ((template, "vm.template"), (fault_tolerant, "vm.fault-tolerant"),
                        (encrypted, "vm.encrypted")):
        if wrong:
            raise Refused(code, vm=name)
    for device in devices:
        label = _label(device)
        if isinstance(device, _DEVICE.VirtualPCIPassthrough):
            raise Refused("vm.passthrough", vm=name, device=label)
        if isinstance(device, _DEVICE.VirtualSriovEthernetCard):
            raise Refused("vm.passthrough", vm=name, device=label)
        if isinstance(device, _DEVICE.VirtualTPM):
            raise Refused("vm.tpm", vm=name)
        if isinstance(device, _DEVICE.VirtualSCSIController) and (
                device.sharedBus not in (None, "noSharing")):
            raise Refused("vm.shared-bus", vm=name, device=label)
    disks = list(disks_of(devices))
    for disk in disks:
        _refuse_disk(disk)
    if not disks:
        raise Refused("vm.no-disks", vm=name)


def _refuse_disk(disk: Any) -> None:
    backing, label = disk.backing, _label(disk)
    if str(getattr(backing, "diskMode", "")).startswith("independent"):
        raise Refused("disk.independent", disk=label)
    if getattr(backing, "compatibilityMode", "") == "physicalMode":
        raise Refused("disk.lun", disk=label, device="RDM")
    if getattr(backing, "sharing", None) == "sharingMultiWriter":
        raise Refused("disk.multi-writer", disk=label)
    if not isinstance(backing, _BACKINGS):
        raise Refused("disk.format", disk=label, format=type(backing).__name__)


def describe(config: Any, power: Power, tracks: bool,
             portgroup: Callable[[str], str]) -> VmDescription:
    """``tracks``: changed blocks can be tracked. ``portgroup`` tells the name of a distributed
    one by its key. Raises Refused as :func:`refuse`."""
    name = str(config.name)
    hardware, devices = config.hardware, config.hardware.device
    refuse(name, devices, template=bool(config.template), fault_tolerant=config.ftInfo is not None,
           encrypted=getattr(config, "keyId", None) is not None)
    controllers = {d.key: d for d in devices if isinstance(d, _DEVICE.VirtualController)}
    order = _boot_order(config)
    cores = int(hardware.numCoresPerSocket or 1)
    return VmDescription(
        ref=str(config.instanceUuid), name=name, uuid=str(config.uuid).lower(),
        memory=int(hardware.memoryMB) * _MIB, vcpus=int(hardware.numCPU), arch="x86_64",
        machine=str(config.version or ""), virt="vmware", firmware=_firmware(config),
        cpu=CpuSpec(sockets=max(1, int(hardware.numCPU) // cores), cores=cores, threads=1),
        clock="localtime" if _WINDOWS.match(config.guestId or "") else "utc",
        disks=tuple(_disk(d, controllers, order, tracks) for d in disks_of(devices)),
        nics=tuple(_nic(d, order, portgroup) for d in devices
                   if isinstance(d, _DEVICE.VirtualEthernetCard)),
        features=("acpi", "apic", "pae"), video="vga",
        agent=bool(config.tools is not None and config.tools.toolsVersion), power=power,
        guest=str(config.guestId or ""),
        warnings=tuple(_dropped(devices)))


def _label(device: Any) -> str:
    return str(device.deviceInfo.label if device.deviceInfo is not None else
               f"{type(device).__name__.rpartition('.')[2]} {device.key}")


def _firmware(config: Any) -> Firmware:
    if config.firmware != "efi":
        return "bios"
    secure = config.bootOptions is not None and config.bootOptions.efiSecureBootEnabled
    return "efi-secure" if secure else "efi"


def _boot_order(config: Any) -> dict[int, int]:
    """Place in the boot order by device key, from 1 on."""
    options = config.bootOptions.bootOrder if config.bootOptions is not None else ()
    keys = [d.deviceKey for d in options if hasattr(d, "deviceKey")]
    return {key: place for place, key in enumerate(keys, 1)}


def _disk(device: Any, controllers: Mapping[int, Any], order: Mapping[int, int],
          tracks: bool) -> DiskSpec:
    controller = controllers.get(device.controllerKey)
    bus, model = next(((bus, model) for kind, bus, model in _CONTROLLERS
                       if isinstance(controller, kind)), ("scsi", ""))
    return DiskSpec(id=disk_id(device), size=size_of(device), bus=bus, controller=model,
                    boot_order=order.get(device.key), format="vmdk",
                    location=_base_file(device.backing), tracking=tracks)


def _base_file(backing: Any) -> str:
    """Where the disk lies without any snapshot: the same at each run."""
    chain: list[Any] = [backing]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    return str(chain[-1].fileName)


def _nic(device: Any, order: Mapping[int, int], portgroup: Callable[[str], str]) -> NicSpec:
    backing = device.backing
    if isinstance(backing, _DEVICE.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
        network = portgroup(str(backing.port.portgroupKey))
    else:
        network = str(getattr(backing, "deviceName", "")
                      or getattr(backing, "opaqueNetworkId", ""))
    model = next((model for kind, model in _NICS if isinstance(device, kind)), "e1000")
    return NicSpec(mac=str(device.macAddress or "").lower(), model=model, network=network,
                   boot_order=order.get(device.key))


def _dropped(devices: Any) -> Iterator[str]:
    for device in devices:
        if isinstance(device, _DEVICE.VirtualCdrom | _DEVICE.VirtualFloppy):
            medium = getattr(device.backing, "fileName", None)
            if medium:
                yield text_of("vm.warn.removable", {
                    "disk": _label(device), "device": medium}).message
        elif not isinstance(device, _REBUILT):
            yield text_of("vm.warn.device", {"device": _label(device)}).message
