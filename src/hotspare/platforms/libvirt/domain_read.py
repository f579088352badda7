"""A libvirt domain as a :class:`VmDescription`: what is not understood is refused or dropped.

Dropped things are named in ``warnings``. Refusals are for what would make a replica that is not
the machine (a disk that is missing, shared or not Hotspare's to read).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import libvirt

from ...domain.errors import GiveUp, Refused
from ...domain.machine import CpuSpec, DiskSpec, Firmware, NicSpec, Power, VmDescription
from ...domain.messages import text_of
from .liberrors import mapped
from .xmlsafe import ET, flag, parse, text

AGENT_CHANNEL = "org.qemu.guest_agent.0"
_BUSES = {"virtio", "scsi", "sata", "ide", "usb"}
_FORMATS = {"qcow2", "raw"}
_FEATURES = {"acpi", "apic", "pae", "smm"}
# rebuilt by the target in its own way, or without any effect on what the guest finds on its disks
_REBUILT = {"emulator", "disk", "interface", "controller", "input", "graphics", "video", "serial",
            "console", "channel", "rng", "memballoon", "sound", "audio", "hub", "watchdog", "panic"}
_REFUSED_DEVICES = {"hostdev": "vm.passthrough", "tpm": "vm.tpm", "lease": "vm.lease"}
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """What the source needs beside the description, and nobody else."""

    vm: VmDescription
    sources: dict[str, dict[str, str]]
    """How libvirt names each disk's storage: attributes of ``<source>``, with ``type``."""
    root: ET.Element
    """The domain's XML: as it runs, or as it is defined when it is off."""
    saved: bool
    """The machine is off, with its memory saved to disk by libvirt."""


def read_layout(conn: Any, domain: Any) -> Layout:
    """Read a domain. Raises Refused with the reason why it cannot be protected, GiveUp
    ``disk.unreadable`` when the host cannot tell a disk's size, or a connection's errors."""
    with mapped(vm=_name(domain)):
        active = bool(domain.isActive())
        state = domain.state()[0]
        lasting = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        # what runs is what is copied: a disk that was attached for this run only belongs to it
        now = parse(domain.XMLDesc(0)) if active else lasting
        internal = domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL)
        saved = not active and bool(domain.hasManagedSaveImage(0))
    warn = _Warnings()
    if internal:
        warn("vm.warn.internal-snapshots", count=len(internal))
    _refuse(now)
    _warn_of_dropped(now, warn)
    sources: dict[str, dict[str, str]] = {}
    disks = tuple(_disks(conn, domain, now, sources, warn))
    if not disks:
        raise Refused("vm.no-disks", vm=_name(domain))
    order = _BootOrder(now)
    vm = VmDescription(
        ref=text(now, "uuid"), uuid=text(now, "uuid"), name=text(now, "name"),
        memory=int(text(now, "memory", "0")) * _KIB, vcpus=_vcpus(now),
        arch=_os_type(now).get("arch", "x86_64"), machine=_os_type(now).get("machine", ""),
        virt=now.get("type", "kvm"), firmware=_firmware(now, warn), cpu=_cpu(lasting),
        clock=_clock(now, warn), disks=order.of_disks(disks),
        nics=order.of_nics(tuple(_nics(now, warn))),
        features=tuple(f.tag for f in now.findall("features/*") if f.tag in _FEATURES),
        agent=any(t.get("name") == AGENT_CHANNEL for t in now.findall("devices/channel/target")),
        serial_console=now.find("devices/serial") is not None,
        video=_video(now), rng=now.find("devices/rng") is not None,
        power=power_of(active, state), warnings=tuple(warn.lines))
    return Layout(vm, sources, now, saved)


class _Warnings:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, code: str, **fields: Any) -> None:
        line = text_of(code, fields).message
        if line not in self.lines:
            self.lines.append(line)


def _name(domain: Any) -> str:
    return str(domain.name())


def _os_type(root: ET.Element) -> dict[str, str]:
    element = root.find("os/type")
    return {} if element is None else element.attrib


def power_of(active: bool, state: int) -> Power:
    """libvirt's many states as the three that matter here."""
    if not active:
        return "off"
    return "running" if state == libvirt.VIR_DOMAIN_RUNNING else "paused"


# --- refusals and warnings ---------------------------------------------------------------------


def _refuse(root: ET.Element) -> None:
    name = text(root, "name")
    if root.get("type") not in ("kvm", "qemu") or text(root, "os/type") != "hvm":
        raise Refused("vm.kind", vm=name, kind=root.get("type", ""))
    if root.find("launchSecurity") is not None:
        raise Refused("vm.confidential", vm=name)
    for device in root.findall("devices/*"):
        code = _REFUSED_DEVICES.get(device.tag)
        if code:
            raise Refused(code, vm=name, device=device.tag)
        if device.tag == "interface" and device.get("type") in ("hostdev", "vdpa", "vhostuser"):
            raise Refused("vm.passthrough", vm=name, device=f"interface {device.get('type')}")
        if device.tag == "memory" and device.get("model") in ("nvdimm", "virtio-pmem"):
            raise Refused("vm.nvdimm", vm=name)


def _warn_of_dropped(root: ET.Element, warn: _Warnings) -> None:
    for device in root.findall("devices/*"):
        if device.tag not in _REBUILT and device.tag not in _REFUSED_DEVICES:
            warn("vm.warn.device", device=device.tag)
    for tag in ("memoryBacking", "cputune", "numatune", "sysinfo", "iothreads", "blkiotune",
                "memtune", "idmap", "maxMemory"):
        if root.find(tag) is not None:
            warn("vm.warn.setting", setting=tag)
    for tag in ("hyperv", "kvm", "xen", "ioapic", "vmcoreinfo"):
        if root.find(f"features/{tag}") is not None:
            warn("vm.warn.setting", setting=f"features/{tag}")
    if root.find("os/kernel") is not None:
        warn("vm.warn.direct-kernel")
    if any("schemas/domain/qemu" in element.tag for element in root):
        warn("vm.warn.setting", setting="qemu:commandline")


# --- disks -------------------------------------------------------------------------------------


def _disks(conn: Any, domain: Any, root: ET.Element, sources: dict[str, dict[str, str]],
           warn: _Warnings) -> list[DiskSpec]:
    controllers = {(c.get("type"), c.get("index", "0")): c.get("model", "")
                   for c in root.findall("devices/controller")}
    found = []
    for element in root.findall("devices/disk"):
        target = element.find("target")
        disk_id = "" if target is None else target.get("dev", "")
        if element.get("device", "disk") in ("cdrom", "floppy"):
            warn("vm.warn.removable", disk=disk_id, device=element.get("device"))
            continue
        source = _refuse_disk(element, disk_id)
        kind = element.get("type", "file")
        driver = element.find("driver")
        fmt = "raw" if driver is None else driver.get("type", "raw")
        if fmt not in _FORMATS:
            raise Refused("disk.format", disk=disk_id, format=fmt)
        read_only = element.find("readonly") is not None
        if read_only:
            warn("vm.warn.disk-readonly", disk=disk_id)
        if fmt == "raw":
            warn("vm.warn.disk-raw", disk=disk_id)
        bus = "virtio" if target is None else target.get("bus", "virtio")
        if bus not in _BUSES:
            raise Refused("disk.bus", disk=disk_id, bus=bus)
        address = element.find("address")
        index = "0" if address is None else address.get("controller", "0")
        boot = element.find("boot")
        sources[disk_id] = {"type": kind, **{k: v for k, v in source.attrib.items()
                                             if k in ("file", "dev", "pool", "volume")}}
        found.append(DiskSpec(
            id=disk_id, size=_size(domain, disk_id), bus=bus,
            controller=controllers.get((bus, index), "") if bus == "scsi" else "",
            boot_order=None if boot is None else int(boot.get("order", "1")), format=fmt,
            location=_location(conn, disk_id, source),
            # a bitmap needs qcow2 to be kept in, and a node that may be written
            tracking=fmt == "qcow2" and not read_only, serial=text(element, "serial")))
    return found


def _refuse_disk(element: ET.Element, disk_id: str) -> ET.Element:
    """The disk's ``<source>``. Raises Refused for a disk that cannot be copied alone."""
    kind = element.get("type", "file")
    source = element.find("source")
    if element.get("device", "disk") != "disk":
        raise Refused("disk.lun", disk=disk_id, device=element.get("device"))
    if element.find("transient") is not None:
        raise Refused("disk.transient", disk=disk_id)
    if element.find("shareable") is not None:
        raise Refused("disk.shareable", disk=disk_id)
    if kind not in ("file", "block", "volume"):
        raise Refused("disk.storage", disk=disk_id, storage=kind)
    if source is None or not disk_id:
        raise Refused("disk.no-source", disk=disk_id)
    if element.find("encryption") is not None or source.find("encryption") is not None:
        raise Refused("disk.encrypted", disk=disk_id)
    if source.find("slices") is not None or source.find("reservations") is not None:
        raise Refused("disk.storage", disk=disk_id, storage="slices")
    return source


def _size(domain: Any, disk_id: str) -> int:
    try:
        return int(domain.blockInfo(disk_id, 0)[0])
    except libvirt.libvirtError as error:
        raise GiveUp("disk.unreadable", disk=disk_id, reason=str(error)) from error


def _location(conn: Any, disk_id: str, source: ET.Element) -> str:
    plain = source.get("file") or source.get("dev")
    if plain:
        return plain
    pool, volume = source.get("pool", ""), source.get("volume", "")
    with mapped(disk=disk_id, pool=pool, volume=volume):
        found = conn.storagePoolLookupByName(pool).storageVolLookupByName(volume)
        path = str(found.path())
        if found.info()[0] not in (libvirt.VIR_STORAGE_VOL_FILE, libvirt.VIR_STORAGE_VOL_BLOCK):
            raise Refused("disk.storage", disk=disk_id, storage=f"volume of pool {pool}")
    return path


# --- the rest ----------------------------------------------------------------------------------


def _vcpus(root: ET.Element) -> int:
    element = root.find("vcpu")
    if element is None:
        return 1
    return int(element.get("current") or element.text or 1)


def _firmware(root: ET.Element, warn: _Warnings) -> Firmware:
    element, loader = root.find("os"), root.find("os/loader")
    efi = ((element is not None and element.get("firmware") == "efi")
           or (loader is not None and loader.get("type") == "pflash"))
    if not efi:
        if loader is not None:
            warn("vm.warn.loader")
        return "bios"
    secure = flag(loader, "secure") or any(
        flag(f, "enabled") and f.get("name") == "secure-boot"
        for f in root.findall("os/firmware/feature"))
    return "efi-secure" if secure else "efi"


def _cpu(root: ET.Element) -> CpuSpec:
    element = root.find("cpu")
    if element is None:
        return CpuSpec()
    topology = element.find("topology")
    shape = {} if topology is None else topology.attrib
    signs = {"require": "+", "force": "+", "disable": "-", "forbid": "-"}
    features = tuple(signs[f.get("policy", "require")] + f.get("name", "")
                     for f in element.findall("feature") if f.get("policy", "require") in signs)
    return CpuSpec(mode=element.get("mode", "custom" if element.find("model") is not None else ""),
                   model=text(element, "model"), features=features,
                   sockets=int(shape.get("sockets", 0)) * int(shape.get("dies", 1)),
                   cores=int(shape.get("cores", 0)), threads=int(shape.get("threads", 0)))


def _clock(root: ET.Element, warn: _Warnings) -> Literal["utc", "localtime"]:
    element = root.find("clock")
    offset = "utc" if element is None else element.get("offset", "utc")
    if offset == "localtime" or (element is not None and element.get("basis") == "localtime"):
        return "localtime"
    if offset not in ("utc", "variable"):
        warn("vm.warn.setting", setting=f"clock {offset}")
    return "utc"


def _video(root: ET.Element) -> str:
    model = root.find("devices/video/model")
    kind = "" if model is None else model.get("type", "")
    return "" if kind == "none" else kind


def _nics(root: ET.Element, warn: _Warnings) -> list[NicSpec]:
    found = []
    for element in root.findall("devices/interface"):
        kind, source, mac = element.get("type", ""), element.find("source"), element.find("mac")
        model, boot = element.find("model"), element.find("boot")
        network = ""
        if source is not None:
            network = source.get("network") or source.get("bridge") or source.get("dev") or ""
        if kind not in ("network", "bridge", "user"):
            # macvtap and the like name a device of this host: on another it needs a mapping
            warn("vm.warn.interface", kind=kind, mac="" if mac is None else mac.get("address"))
            kind = "network"
        found.append(NicSpec(
            mac="" if mac is None else mac.get("address", ""),
            model="virtio" if model is None else model.get("type", "virtio"), kind=kind,
            network=network, boot_order=None if boot is None else int(boot.get("order", "1"))))
    return found


class _BootOrder:
    """Turns ``<os><boot dev=…>`` into the order of devices that the model has."""

    def __init__(self, root: ET.Element) -> None:
        self._classes = [b.get("dev", "") for b in root.findall("os/boot")]

    def _order(self, what: str) -> int | None:
        return self._classes.index(what) + 1 if what in self._classes else None

    def of_disks(self, disks: tuple[DiskSpec, ...]) -> tuple[DiskSpec, ...]:
        order = self._order("hd")
        if order is None or any(d.boot_order is not None for d in disks):
            return disks
        return (replace(disks[0], boot_order=order), *disks[1:])

    def of_nics(self, nics: tuple[NicSpec, ...]) -> tuple[NicSpec, ...]:
        order = self._order("network")
        if order is None or not nics or any(n.boot_order is not None for n in nics):
            return nics
        return (replace(nics[0], boot_order=order), *nics[1:])
