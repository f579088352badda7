"""A replica's libvirt XML, built anew from the typed model: no text of the source is carried over.

Every value is checked against an allow-list or a pattern before it gets into the XML, even where
ElementTree would escape it: a forged description must not name a host path, a command, a device or
a script. What a target lacks is refused with what it has.
"""

from __future__ import annotations

import itertools
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...domain.errors import Refused
from ...domain.machine import DiskSpec, NicSpec, VmDescription
from .volumes import new_element

NAMESPACE = "urn:hotspare:replica:1"
"""Of the metadata element that a started replica carries; what rediscovers it."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_NETWORK = re.compile(r"[^/\x00-\x1f\x7f<>&\"']{1,128}")
_BRIDGE = re.compile(r"[A-Za-z0-9._-]{1,15}")       # IFNAMSIZ
_SERIAL = re.compile(r"[A-Za-z0-9 ._+-]{1,64}")
_TARGET = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd"}
_SCSI = {"virtio-scsi", "virtio-transitional", "virtio-non-transitional", "lsilogic",
         "lsisas1068", "lsisas1078", "vmpvscsi", "auto", "buslogic", "ibmvscsi", "am53c974",
         "dc390", "ncr53c90"}
_ONE_LUN = {"vmpvscsi", "lsisas1068", "lsisas1078"}
_NIC_MODELS = {"virtio", "virtio-transitional", "virtio-non-transitional", "e1000", "e1000e",
               "e1000-82545em", "rtl8139", "vmxnet3", "ne2k_pci", "pcnet", "igb", "i82551",
               "i82557b", "i82559er", "usb-net", "spapr-vlan"}
_NIC_KINDS = {"network", "bridge", "user"}
_VIDEO = {"vga", "virtio", "qxl", "bochs", "cirrus", "vmvga", "ramfb"}
_CLOCKS = {"utc", "localtime"}
_FEATURES = {"acpi", "apic", "pae", "smm"}
_CPU_MODES = {"", "host-model", "host-passthrough", "maximum", "custom"}
_FIRMWARES = {"bios", "efi", "efi-secure"}
_VIRTS = {"kvm", "qemu"}
_ARCHS = {"x86_64", "i686", "aarch64", "ppc64le", "s390x", "riscv64", "armv7l"}
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Link:
    """Where a network card goes at the target."""

    kind: str                       # network, bridge, user
    name: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """What the target can do for one machine; all that decides how the XML looks."""

    virt: str                       # kvm or qemu: what it will run under
    machine: str                    # canonical machine type
    cpu_modes: frozenset[str] = frozenset()
    efi: bool = False
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """What a started replica gets that the description does not hold."""

    name: str
    uuid: str
    disks: Mapping[str, str]        # path by disk id
    links: tuple[Link, ...]         # one for each network card
    nvram: str = ""                 # path of its UEFI variables; empty: the template
    connect: bool = True            # False: the cables are out
    tags: Mapping[str, str] = field(default_factory=dict)   # attributes of the metadata element


def _refuse(what: str, value: object) -> Refused:
    return Refused("vm.invalid", field=what, value=str(value)[:80])


def checked_name(name: str) -> str:
    """``name`` if it can be a domain's: printable, no slash (libvirt makes files named for it)."""
    if (not 0 < len(name.encode("utf-8", "replace")) <= 200 or "/" in name
            or name.startswith((".", "hs-rx-")) or name != name.strip() or not name.isprintable()):
        raise _refuse("name", name)
    return name


def checked_vm(vm: VmDescription) -> VmDescription:
    """``vm`` if every field is one that we know. Raises Refused ``vm.invalid`` naming the field."""
    rules = (("virt", vm.virt, vm.virt in _VIRTS), ("arch", vm.arch, vm.arch in _ARCHS),
             ("firmware", vm.firmware, vm.firmware in _FIRMWARES),
             ("machine", vm.machine, _WORD.fullmatch(vm.machine)),
             ("uuid", vm.uuid, _UUID.fullmatch(vm.uuid)),
             ("memory", vm.memory, _MIB <= vm.memory <= 1 << 50),
             ("vcpus", vm.vcpus, 1 <= vm.vcpus <= 4096),
             ("clock", vm.clock, vm.clock in _CLOCKS),
             ("video", vm.video, not vm.video or vm.video in _VIDEO),
             ("features", vm.features, set(vm.features) <= _FEATURES),
             ("cpu.mode", vm.cpu.mode, vm.cpu.mode in _CPU_MODES),
             ("cpu.model", vm.cpu.model, not vm.cpu.model or _WORD.fullmatch(vm.cpu.model)))
    for what, value, good in rules:
        if not good:
            raise _refuse(what, value)
    for feature in vm.cpu.features:
        if feature[:1] not in "+-" or not _WORD.fullmatch(feature[1:]):
            raise _refuse("cpu.features", feature)
    for disk in vm.disks:
        _checked_disk(disk)
    for nic in vm.nics:
        _checked_nic(nic)
    return vm


def _checked_disk(disk: DiskSpec) -> None:
    if disk.bus not in _TARGET:
        raise _refuse(f"disk {disk.id}: bus", disk.bus)
    if disk.controller and disk.controller not in _SCSI:
        raise _refuse(f"disk {disk.id}: controller", disk.controller)
    if disk.serial and not _SERIAL.fullmatch(disk.serial):
        raise _refuse(f"disk {disk.id}: serial", disk.serial)
    _checked_order(disk.id, disk.boot_order)


def _checked_nic(nic: NicSpec) -> None:
    if not _MAC.fullmatch(nic.mac):
        raise _refuse("nic: mac", nic.mac)
    if nic.model not in _NIC_MODELS:
        raise _refuse(f"nic {nic.mac}: model", nic.model)
    if nic.kind not in _NIC_KINDS:
        raise _refuse(f"nic {nic.mac}: kind", nic.kind)
    if nic.network and not _NETWORK.fullmatch(nic.network):
        raise _refuse(f"nic {nic.mac}: network", nic.network)
    _checked_order(nic.mac, nic.boot_order)


def _checked_order(what: str, order: int | None) -> None:
    if order is not None and not 1 <= order <= 1000:
        raise _refuse(f"{what}: boot order", order)


def link_of(nic: NicSpec, mapping: Mapping[str, str], present: frozenset[str]) -> Link:
    """Where ``nic`` goes: what ``mapping`` says for its network, else the network of the same name.

    A mapped value is a network's name, ``bridge:NAME`` or ``user``. Raises Refused
    ``target.network`` when the target lacks it; ``present`` are the names of its networks.
    """
    wanted = mapping.get(nic.network, "")
    if wanted == "user" or (not wanted and nic.kind == "user"):
        return Link("user")
    if wanted.startswith("bridge:"):
        name = wanted.removeprefix("bridge:")
        if not _BRIDGE.fullmatch(name):
            raise _refuse(f"nic {nic.mac}: bridge", name)
        return Link("bridge", name)
    name = wanted or nic.network
    if name not in present:
        raise Refused("target.network", network=nic.network, mapped=name,
                      present=", ".join(sorted(present)) or "-")
    return Link("network", name)


def disk_targets(disks: tuple[DiskSpec, ...]) -> dict[str, str]:
    """libvirt's target name of each disk by its id: the id where it is such a name (so that the
    disks of a failed-over machine match the source's), else the next free one of its bus."""
    used: set[str] = set()
    found: dict[str, str] = {}
    for disk in disks:
        prefix = _TARGET[disk.bus]
        if re.fullmatch(prefix + r"[a-z]{1,2}", disk.id):
            found[disk.id] = disk.id
            used.add(disk.id)
    for disk in disks:
        if disk.id not in found:
            prefix, number = _TARGET[disk.bus], 0
            while (name := prefix + _letters(number)) in used:
                number += 1
            found[disk.id] = name
            used.add(name)
    return found


def _letters(number: int) -> str:
    high, low = divmod(number, 26)
    return (chr(ord("a") + high - 1) if high else "") + chr(ord("a") + low)


def domain_xml(vm: VmDescription, place: Placement, host: Host) -> str:
    """The XML of a replica of ``vm`` at ``place``. Raises Refused ``vm.invalid``."""
    checked_vm(vm)
    root = ET.Element("domain", {"type": host.virt})
    new_element(root, "name", checked_name(place.name))
    new_element(root, "uuid", str(uuid.UUID(place.uuid)))
    metadata = new_element(root, "metadata")
    # declared on the element itself, so that nothing of it stays when the mark is taken away
    ET.SubElement(metadata, "hotspare:replica", {"xmlns:hotspare": NAMESPACE, **place.tags})
    new_element(root, "memory", str(vm.memory // 1024), unit="KiB")
    new_element(root, "vcpu", str(vm.vcpus))
    _firmware(root, vm, place, host)
    features = set(vm.features) | ({"smm"} if vm.firmware == "efi-secure" else set())
    if vm.firmware != "bios":
        features.add("acpi")    # UEFI guests do not start without it
    block = new_element(root, "features")
    for feature in sorted(features):
        if feature == "smm":
            new_element(block, feature, state="on")
        else:
            new_element(block, feature)
    _cpu(root, vm, host)
    new_element(root, "clock", offset=vm.clock)
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"),
                          ("on_crash", "destroy")):
        new_element(root, event, action)
    devices = new_element(root, "devices")
    _disks(devices, vm, place)
    for nic, link in zip(vm.nics, place.links, strict=True):
        _nic(devices, nic, link, place.connect)
    if vm.serial_console:
        new_element(new_element(devices, "serial", type="pty"), "target", port="0")
        new_element(new_element(devices, "console", type="pty"), "target", type="serial", port="0")
    if vm.agent:
        # libvirt chooses the socket's path
        channel = new_element(devices, "channel", type="unix")
        new_element(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if vm.video:
        # only from the host itself: an operator tunnels to it, as libvirt's clients do
        new_element(devices, "graphics", type="vnc", autoport="yes", listen="127.0.0.1")
        new_element(new_element(devices, "video"), "model", type=vm.video)
    if vm.rng:
        rng = new_element(devices, "rng", model="virtio")
        new_element(rng, "backend", "/dev/urandom", model="random")
    return ET.tostring(root, encoding="unicode")


def _firmware(root: ET.Element, vm: VmDescription, place: Placement, host: Host) -> None:
    # libvirt picks the firmware's files by the descriptors that the target's distribution ships:
    # the paths of the source mean nothing here
    efi = vm.firmware != "bios"
    node = new_element(root, "os", **({"firmware": "efi"} if efi else {}))
    new_element(node, "type", "hvm", arch=vm.arch, machine=host.machine)
    if efi:
        secure = "yes" if vm.firmware == "efi-secure" else "no"
        new_element(new_element(node, "firmware"), "feature", enabled=secure, name="secure-boot")
        if secure == "yes":
            new_element(node, "loader", secure="yes")
        if place.nvram:
            new_element(node, "nvram", place.nvram)
    orders = [d.boot_order for d in vm.disks] + [n.boot_order for n in vm.nics]
    if vm.disks and not any(orders):
        new_element(node, "boot", dev="hd")


def _cpu(root: ET.Element, vm: VmDescription, host: Host) -> None:
    cpu = vm.cpu
    topology = (cpu.sockets, cpu.cores, cpu.threads)
    fits = all(n > 0 for n in topology) and topology[0] * topology[1] * topology[2] == vm.vcpus
    mode = cpu.mode
    if mode in ("host-passthrough", "host-model") and mode not in host.cpu_modes:
        # under emulation there is no host CPU to pass through; the guest gets all that is emulated
        mode = "maximum" if "maximum" in host.cpu_modes else ""
    if not mode and not fits:
        return
    node = new_element(root, "cpu", **({"mode": mode} if mode else {}))
    if mode == "custom":
        node.set("match", "exact")
        new_element(node, "model", cpu.model, fallback="forbid")
    if fits:
        new_element(node, "topology", sockets=str(cpu.sockets), cores=str(cpu.cores),
                    threads=str(cpu.threads))
    if mode == cpu.mode and mode in ("custom", "host-model", "host-passthrough"):
        for feature in cpu.features:
            new_element(node, "feature", name=feature[1:],
                        policy="require" if feature[0] == "+" else "disable")


def _disks(devices: ET.Element, vm: VmDescription, place: Placement) -> None:
    targets = disk_targets(vm.disks)
    models = {disk.controller for disk in vm.disks if disk.bus == "scsi"}
    if models:
        # one controller for all: two of different models would need the source's addresses
        model = sorted(models - {"", "auto"}) or ["virtio-scsi"]
        new_element(devices, "controller", type="scsi", index="0", model=model[0])
    one_lun = bool(models & _ONE_LUN)
    addresses = itertools.count()
    for disk in vm.disks:
        node = new_element(devices, "disk", type="file", device="disk")
        # formats are explicit: probing one would let a guest write itself a backing file
        new_element(node, "driver", name="qemu", type="qcow2", discard="unmap")
        new_element(node, "source", file=place.disks[disk.id])
        new_element(node, "target", dev=targets[disk.id], bus=disk.bus)
        if disk.bus == "scsi" and one_lun:
            # libvirt would put several at one target, which these do not have
            new_element(node, "address", type="drive", controller="0", bus="0",
                        target=str(next(addresses)), unit="0")
        if disk.serial:
            new_element(node, "serial", disk.serial)
        if disk.boot_order:
            new_element(node, "boot", order=str(disk.boot_order))


def _nic(devices: ET.Element, nic: NicSpec, link: Link, connect: bool) -> None:
    node = new_element(devices, "interface", type=link.kind)
    new_element(node, "mac", address=nic.mac)
    if link.kind == "network":
        new_element(node, "source", network=link.name)
    elif link.kind == "bridge":
        new_element(node, "source", bridge=link.name)
    new_element(node, "model", type=nic.model)
    if not connect:
        new_element(node, "link", state="down")
    if nic.boot_order:
        new_element(node, "boot", order=str(nic.boot_order))
