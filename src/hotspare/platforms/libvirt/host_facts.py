"""What a target host can run, read from libvirt's capabilities."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

import libvirt

from ...domain.errors import Refused
from ...domain.machine import VmDescription
from . import xmlsafe
from .connection import Connection, mapped
from .domain_write import Host, Link, checked_vm, link_of


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The target's abilities for one machine."""

    host: Host
    cpu_models: frozenset[str]      # usable ones for mode "custom"
    networks: frozenset[str]
    note: str = ""                  # what differs from the source and is not refused

    def check(self, vm: VmDescription, networks: Mapping[str, str]) -> None:
        """Raises Refused ``target.firmware``, ``target.cpu`` or ``target.network``."""
        if vm.firmware != "bios" and not self.host.efi:
            raise Refused("target.firmware", firmware=vm.firmware)
        if vm.firmware == "efi-secure" and not self.host.secure:
            raise Refused("target.firmware", firmware=vm.firmware)
        if vm.cpu.mode == "custom" and vm.cpu.model not in self.cpu_models:
            raise Refused("target.cpu", model=vm.cpu.model,
                          usable=", ".join(sorted(self.cpu_models)))
        self.links(vm, networks)

    def links(self, vm: VmDescription, networks: Mapping[str, str]) -> tuple[Link, ...]:
        """Where each network card goes. Raises Refused ``target.network``."""
        return tuple(link_of(nic, networks, self.networks) for nic in vm.nics)


def read(connection: Connection, vm: VmDescription) -> HostFacts:
    """The facts for ``vm``. Raises Refused ``target.arch`` or ``target.machine``.

    A machine that ran under KVM where the target has none runs under emulation: slow, and said in
    ``note``, but it runs.
    """
    checked_vm(vm)
    with mapped():
        capabilities = xmlsafe.parse(connection.conn.getCapabilities())
    arch = _arch(capabilities, vm.arch)
    offered = {node.get("type", "") for node in arch.findall("domain")}
    virt, note = vm.virt, ""
    if virt not in offered:
        if "qemu" not in offered:
            raise Refused("target.virt", virt=virt, offered=", ".join(sorted(offered)))
        virt, note = "qemu", "no-kvm"
    machine = _machine(arch, virt, vm.machine)
    with mapped():
        domain = xmlsafe.parse(connection.conn.getDomainCapabilities(
            None, vm.arch, machine, virt))
        networks = frozenset(n.name() for n in connection.conn.listAllNetworks(
            libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE))
    modes = {m.get("name", ""): m for m in domain.findall("cpu/mode")
             if m.get("supported") == "yes"}
    custom = modes.get("custom")
    models = frozenset(m.text or "" for m in custom.findall("model")
                       if m.get("usable") != "no") if custom is not None else frozenset()
    values = {v.text for v in domain.findall("os/enum[@name='firmware']/value")}
    secure = {v.text for v in domain.findall("os/loader/enum[@name='secure']/value")}
    return HostFacts(Host(virt, machine, frozenset(modes), "efi" in values, "yes" in secure),
                     models, networks, note)


def _arch(capabilities: ET.Element, name: str) -> ET.Element:
    found = {}
    for guest in capabilities.findall("guest"):
        arch = guest.find("arch")
        if guest.findtext("os_type") == "hvm" and arch is not None:
            found[arch.get("name", "")] = arch
    if name not in found:
        raise Refused("target.arch", arch=name, offered=", ".join(sorted(found)))
    return found[name]


def _machine(arch: ET.Element, virt: str, wanted: str) -> str:
    """The canonical name of machine type ``wanted``, or of the alias. Never another type: what a
    guest was installed on (chip set, PCI layout) is what it boots on."""
    nodes = [*arch.findall("machine"), *arch.findall(f"domain[@type='{virt}']/machine")]
    known = {(node.text or ""): node.get("canonical", node.text or "") for node in nodes}
    if wanted in known:
        return known[wanted]
    if wanted in known.values():
        return wanted
    raise Refused("target.machine", machine=wanted, offered=", ".join(sorted(known)))
