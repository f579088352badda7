"""What Hotspare knows of a virtual machine: a typed, allow-listed model.

A machine's configuration is never carried over as text. What is not in this model does not reach
the target: a hostile or forged configuration could name commands, host paths, devices, scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Power = Literal["running", "paused", "off"]
Firmware = Literal["bios", "efi", "efi-secure"]
Devices = Literal["auto", "virtio", "same", "sata"]
"""What a machine of another hypervisor finds its disks and networks on: virtio; the devices that it
had, as far as they are emulated; SATA and e1000e; or by its operating system."""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """One disk. ``id`` is stable over the machine's life (libvirt: the target name, ``vda``;
    vSphere: the device's key, ``disk-2000``)."""

    id: str
    size: int                       # bytes
    bus: str = "virtio"             # virtio, scsi, sata, ide, usb, nvme
    controller: str = ""            # model of its controller where that matters (virtio-scsi, …)
    boot_order: int | None = None
    format: str = "qcow2"           # format at the source
    location: str = ""              # where it lies at the source, for people and for the sweeper
    tracking: bool = True           # False: no changed-block tracking possible (raw on libvirt)
    serial: str = ""


@dataclass(frozen=True, slots=True)
class NicSpec:
    """One network card, attached to the named network of its host."""

    mac: str
    model: str = "virtio"
    kind: str = "network"           # network, bridge, user (libvirt's type)
    network: str = ""               # name of the network or bridge; empty for user networking
    boot_order: int | None = None


def shared_nics(nics: Sequence[NicSpec], networks: Mapping[str, str]) -> tuple[NicSpec, ...]:
    """Those cards that another machine can meet. ``networks`` maps the source's networks to the
    target's; user networking is a network of the machine's own."""
    return tuple(n for n in nics if networks.get(n.network, "" if n.kind != "user" else "user")
                 != "user")


@dataclass(frozen=True, slots=True)
class CpuSpec:
    """Guest CPU. ``mode`` as libvirt names it: host-model, host-passthrough, custom, maximum or
    empty for the hypervisor's default."""

    mode: str = ""
    model: str = ""
    features: tuple[str, ...] = ()  # "+name" required, "-name" disabled
    sockets: int = 0
    cores: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class VmDescription:
    """All of a machine that a replica is rebuilt from."""

    ref: str                        # the platform's own lasting id (uuid, moref)
    name: str
    uuid: str
    memory: int                     # bytes
    vcpus: int
    arch: str = "x86_64"
    machine: str = "q35"            # canonical machine type as the source reports it
    virt: str = "kvm"               # kvm, qemu (software emulation), vmware
    firmware: Firmware = "bios"
    cpu: CpuSpec = CpuSpec()
    clock: str = "utc"
    disks: tuple[DiskSpec, ...] = ()
    nics: tuple[NicSpec, ...] = ()
    features: tuple[str, ...] = ()  # acpi, apic, pae, …
    agent: bool = False             # a guest agent's channel exists
    serial_console: bool = False
    video: str = ""                 # vga, virtio, … or empty
    rng: bool = False
    power: Power = "off"
    guest: str = ""                 # the platform's word for the operating system, if it has one
    warnings: tuple[str, ...] = ()  # what was dropped from the source's configuration, and why
