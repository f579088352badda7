"""A replica's XML is built from checked fields only: what an enemy writes into a machine's
description is refused or stays text."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotspare.domain.errors import Refused
from hotspare.domain.machine import CpuSpec, DiskSpec, NicSpec, VmDescription, shared_nics
from hotspare.platforms.libvirt.domain_write import (
    NAMESPACE,
    Host,
    Link,
    Placement,
    checked_name,
    checked_vm,
    disk_targets,
    domain_xml,
    link_of,
)

UUID = "11111111-2222-4333-8444-555555555555"
VM = VmDescription(
    "ref", "web", UUID, 2 << 30, 4, machine="pc-q35-7.2",
    cpu=CpuSpec("host-model", "", (), 2, 2, 1),
    disks=(DiskSpec("vda", 1 << 30, boot_order=1), DiskSpec("sda", 1 << 30, bus="scsi",
                                                           controller="virtio-scsi", serial="S1")),
    nics=(NicSpec("52:54:00:aa:bb:cc", network="prod"),), features=("acpi", "apic"), agent=True,
    serial_console=True, video="vga", rng=True)
PLACE = Placement("web-dr", UUID, {"vda": "/pool/a.qcow2", "sda": "/pool/b.qcow2"},
                  (Link("network", "dr"),), tags={"rule": "0badcafe", "point": "3"})
HOST = Host("kvm", "pc-q35-7.2", frozenset({"host-model", "maximum", "custom"}), True, True)
EVIL = ("x' onload='y", 'a"b', "<disk/>", "]]>", "&lt;", "../../etc/shadow", "a/b", "\x00", "a\nb",
        "-evil", "$(id)", "x" * 5000)


def build(vm: VmDescription = VM, place: Placement = PLACE, host: Host = HOST) -> ET.Element:
    return ET.fromstring(domain_xml(vm, place, host))


def test_everything_of_the_model_is_there() -> None:
    root = build()
    assert root.get("type") == "kvm" and root.findtext("name") == "web-dr"
    assert root.findtext("uuid") == UUID and root.findtext("memory") == str(2 << 20)
    assert root.find("os/type").attrib == {"arch": "x86_64", "machine": "pc-q35-7.2"}
    assert root.find("cpu").get("mode") == "host-model"
    assert root.find("cpu/topology").attrib == {"sockets": "2", "cores": "2", "threads": "1"}
    disks = root.findall("devices/disk")
    assert [(d.find("target").get("dev"), d.find("target").get("bus"),
             d.find("source").get("file"), d.find("driver").get("type")) for d in disks] == [
        ("vda", "virtio", "/pool/a.qcow2", "qcow2"), ("sda", "scsi", "/pool/b.qcow2", "qcow2")]
    assert disks[0].find("boot").get("order") == "1" and root.find("os/boot") is None
    assert disks[1].findtext("serial") == "S1"
    nic = root.find("devices/interface")
    assert nic.get("type") == "network" and nic.find("source").get("network") == "dr"
    assert nic.find("mac").get("address") == "52:54:00:aa:bb:cc" and nic.find("link") is None
    assert root.find("devices/channel/target").get("name") == "org.qemu.guest_agent.0"
    assert root.find("devices/channel/source") is None
    assert root.find("devices/serial").get("type") == "pty"
    assert root.find("devices/video/model").get("type") == "vga"
    assert root.find(f"metadata/{{{NAMESPACE}}}replica").get("rule") == "0badcafe"


def test_only_known_elements_are_ever_written() -> None:
    known = {"domain", "name", "uuid", "metadata", f"{{{NAMESPACE}}}replica", "memory", "vcpu",
             "os", "type", "firmware", "feature", "loader", "nvram", "boot", "features", "acpi",
             "apic", "smm", "cpu", "topology", "model", "clock", "on_poweroff", "on_reboot",
             "on_crash", "devices", "disk", "driver", "source", "target", "serial", "controller",
             "interface", "mac", "console", "channel", "graphics", "video", "rng", "backend"}
    for vm in (VM, replace(VM, firmware="efi"), replace(VM, firmware="efi-secure")):
        found = {e.tag for e in build(vm).iter()}
        assert found <= known, found - known
        paths = [e.get("file") for e in build(vm).iter() if e.get("file")]
        assert paths == ["/pool/a.qcow2", "/pool/b.qcow2"]


def test_firmware() -> None:
    assert build().find("os").get("firmware") is None
    root = build(replace(VM, firmware="efi", features=()), replace(PLACE, nvram="/pool/n.fd"))
    assert root.find("os").get("firmware") == "efi" and root.findtext("os/nvram") == "/pool/n.fd"
    assert root.find("os/firmware/feature").attrib == {"enabled": "no", "name": "secure-boot"}
    assert root.find("features/acpi") is not None and root.find("os/loader") is None
    root = build(replace(VM, firmware="efi-secure"))
    assert root.find("os/loader").get("secure") == "yes"
    assert root.find("features/smm").get("state") == "on"


def test_cpu_on_a_host_that_emulates() -> None:
    emulated = replace(HOST, virt="qemu", cpu_modes=frozenset({"maximum", "custom"}))
    vm = replace(VM, cpu=CpuSpec("host-passthrough", "", ("+vmx", "-hle")))
    root = build(vm, host=emulated)
    assert root.get("type") == "qemu" and root.find("cpu").get("mode") == "maximum"
    assert root.findall("cpu/feature") == []
    assert build(vm, host=replace(emulated, cpu_modes=frozenset())).find("cpu") is None
    root = build(replace(VM, cpu=CpuSpec("custom", "Skylake-Server", ("+vmx", "-hle"))))
    assert root.findtext("cpu/model") == "Skylake-Server"
    assert root.find("cpu/model").get("fallback") == "forbid"
    assert [(f.get("name"), f.get("policy")) for f in root.findall("cpu/feature")] == [
        ("vmx", "require"), ("hle", "disable")]
    odd = replace(VM, cpu=CpuSpec("", "", (), 3, 3, 3))     # does not make 4 CPUs
    assert build(odd).find("cpu") is None


def test_networks() -> None:
    nic = VM.nics[0]
    present = frozenset({"prod", "dr"})
    assert link_of(nic, {}, present) == Link("network", "prod")
    assert link_of(nic, {"prod": "dr"}, present) == Link("network", "dr")
    assert link_of(nic, {"prod": "bridge:br0"}, frozenset()) == Link("bridge", "br0")
    assert link_of(nic, {"prod": "user"}, frozenset()) == Link("user")
    assert link_of(replace(nic, kind="user", network=""), {}, frozenset()) == Link("user")
    for mapping in ({}, {"prod": "lab"}):
        with pytest.raises(Refused) as caught:
            link_of(nic, mapping, frozenset({"dr"}))
        assert caught.value.code == "target.network" and "dr" in str(caught.value)
    with pytest.raises(Refused):
        link_of(replace(nic, kind="bridge", network="br0"), {}, frozenset({"dr"}))
    with pytest.raises(Refused):
        link_of(nic, {"prod": "bridge:br0; reboot"}, frozenset())
    out = build(place=replace(PLACE, connect=False))
    assert out.find("devices/interface/link").get("state") == "down"
    bridge = build(place=replace(PLACE, links=(Link("bridge", "br0"),)))
    assert bridge.find("devices/interface/source").attrib == {"bridge": "br0"}
    user = build(place=replace(PLACE, links=(Link("user"),)))
    assert user.find("devices/interface/source") is None


def test_boot_from_the_first_disk_where_no_order_is_known() -> None:
    vm = replace(VM, disks=tuple(replace(d, boot_order=None) for d in VM.disks))
    assert build(vm).find("os/boot").get("dev") == "hd"


def test_disk_targets() -> None:
    disks = (DiskSpec("2000", 512), DiskSpec("vda", 512), DiskSpec("scsi0:1", 512, bus="scsi"),
             DiskSpec("sda", 512, bus="sata"), DiskSpec("vdzz9", 512), DiskSpec("hdb", 512))
    assert disk_targets(disks) == {"2000": "vdb", "vda": "vda", "scsi0:1": "sdb", "sda": "sda",
                                   "vdzz9": "vdc", "hdb": "vdd"}
    many = disk_targets(tuple(DiskSpec(str(i), 512) for i in range(40)))
    assert many["25"] == "vdz" and many["26"] == "vdaa" and len(set(many.values())) == 40


@pytest.mark.parametrize("text", EVIL)
def test_hostile_values_are_refused(text: str) -> None:
    disk, nic = VM.disks[0], VM.nics[0]
    hostile = [
        replace(VM, machine=text), replace(VM, arch=text), replace(VM, virt=text),
        replace(VM, uuid=text), replace(VM, clock=text), replace(VM, video=text),
        replace(VM, features=(text,)), replace(VM, firmware=text),  # type: ignore[arg-type]
        replace(VM, cpu=CpuSpec(text)), replace(VM, cpu=CpuSpec("custom", text)),
        replace(VM, cpu=CpuSpec("custom", "qemu64", ("+" + text,))),
        replace(VM, disks=(replace(disk, bus=text),)),
        replace(VM, disks=(replace(disk, controller=text),)),
        replace(VM, disks=(replace(disk, serial=text),)),
        replace(VM, nics=(replace(nic, mac=text),)), replace(VM, nics=(replace(nic, model=text),)),
        replace(VM, nics=(replace(nic, kind=text),)),
    ]
    for vm in hostile:
        if text in ("-evil", "$(id)") and vm.disks[0].serial == text:
            continue    # a serial may hold a hyphen; a dollar sign it may not
        with pytest.raises(Refused) as caught:
            checked_vm(vm)
        assert caught.value.code == "vm.invalid" and len(str(caught.value)) < 300


@pytest.mark.parametrize("vm", [
    replace(VM, memory=0), replace(VM, memory=1 << 60), replace(VM, vcpus=0),
    replace(VM, vcpus=10**9), replace(VM, disks=(replace(VM.disks[0], boot_order=0),))])
def test_absurd_numbers_are_refused(vm: VmDescription) -> None:
    with pytest.raises(Refused):
        checked_vm(vm)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "hs-rx-0badcafe", "a\nb", " a",
                                  "x" * 300, "a\x7fb", "a\u202eb"])
def test_names_that_libvirt_or_we_cannot_take(name: str) -> None:
    with pytest.raises(Refused):
        checked_name(name)


def test_names_of_people_are_fine() -> None:
    for name in ("web-01", "数据库 (主)", "R&D <test>", "it's"):
        assert build(place=replace(PLACE, name=checked_name(name))).findtext("name") == name


@given(st.text(max_size=40))
def test_no_name_breaks_out_of_its_element(name: str) -> None:
    try:
        root = build(place=replace(PLACE, name=name))
    except Refused:
        return
    assert root.findtext("name") == name
    assert len(root.findall("devices/disk")) == 2


def test_cards_that_another_machine_can_meet() -> None:
    """User networking is a network of the machine's own, at the source and by the mapping."""
    own, lan, dmz = (NicSpec("52:54:00:00:00:01", kind="user"),
                     NicSpec("52:54:00:00:00:02", network="lan"),
                     NicSpec("52:54:00:00:00:03", kind="bridge", network="dmz"))
    assert shared_nics((own, lan, dmz), {}) == (lan, dmz)
    assert shared_nics((own, lan, dmz), {"lan": "user"}) == (dmz,)
    assert shared_nics((own,), {"": "bridge:br0"}) == (own,)
