"""Domains that are refused, and what is dropped from those that are not: no host is needed."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from hotspare.domain.errors import GiveUp, Reconnect, Refused, Retry, TrackingUnusable
from hotspare.domain.machine import CpuSpec, NicSpec
from hotspare.platforms.libvirt import jobs, offline, xmlsafe
from hotspare.platforms.libvirt.connection import socket_path
from hotspare.platforms.libvirt.domain_read import read_layout
from hotspare.platforms.libvirt.inventory import is_ours
from hotspare.platforms.libvirt.liberrors import translate
from hotspare.platforms.port import Intent

DISK = ("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/images/a.qcow2'/><target dev='vda' bus='virtio'/>{extra}</disk>")


class FakeDomain:
    """As much of a domain as reading needs."""

    def __init__(self, devices: str, outside: str = "", active: bool = False,
                 os: str = "<type arch='x86_64' machine='pc-q35-7.2'>hvm</type><boot dev='hd'/>",
                 kind: str = "kvm", size: int = 1 << 30) -> None:
        self._active, self._size = active, size
        self._xml = (f"<domain type='{kind}'><name>m</name><uuid>u</uuid><memory unit='KiB'>1024"
                     f"</memory><vcpu current='2'>4</vcpu><os>{os}</os>{outside}"
                     f"<devices>{devices}</devices></domain>")

    def XMLDesc(self, _flags: int = 0) -> str:
        return self._xml

    def isActive(self) -> bool:
        return self._active

    def state(self) -> list[int]:
        return [libvirt.VIR_DOMAIN_RUNNING if self._active else libvirt.VIR_DOMAIN_SHUTOFF, 0]

    def listAllSnapshots(self, _flags: int) -> list[Any]:
        return []

    def hasManagedSaveImage(self, _flags: int) -> bool:
        return False

    def blockInfo(self, _disk: str, _flags: int) -> list[int]:
        return [self._size, 0, 0]

    def name(self) -> str:
        return "m"


def read(devices: str, **options: Any) -> Any:
    return read_layout(None, FakeDomain(devices, **options)).vm


def disk(extra: str = "", **changes: str) -> str:
    text = DISK.format(extra=extra)
    for old, new in changes.items():
        text = text.replace({"kind": "type='file'", "device": "device='disk'",
                             "fmt": "type='qcow2'", "source": "file='/images/a.qcow2'",
                             "bus": "bus='virtio'"}[old], new)
    return text


@pytest.mark.parametrize(("devices", "code"), [
    (disk("<transient/>"), "disk.transient"),
    (disk("<shareable/>"), "disk.shareable"),
    (disk("<encryption format='luks'/>"), "disk.encrypted"),
    (disk(device="device='lun'"), "disk.lun"),
    (disk(kind="type='network'"), "disk.storage"),
    (disk(kind="type='nvme'"), "disk.storage"),
    (disk(kind="type='vhostuser'"), "disk.storage"),
    (disk(fmt="type='vmdk'"), "disk.format"),
    (disk(bus="bus='sd'"), "disk.bus"),
    (disk().replace("<source file='/images/a.qcow2'/>", ""), "disk.no-source"),
    (disk().replace("<source file='/images/a.qcow2'/>",
                    "<source file='/a'><slices><slice/></slices></source>"), "disk.storage"),
    (disk() + "<hostdev mode='subsystem' type='pci'/>", "vm.passthrough"),
    (disk() + "<interface type='hostdev'/>", "vm.passthrough"),
    (disk() + "<tpm model='tpm-crb'><backend type='emulator'/></tpm>", "vm.tpm"),
    (disk() + "<memory model='nvdimm'/>", "vm.nvdimm"),
    (disk() + "<lease/>", "vm.lease"),
    ("", "vm.no-disks"),
    (disk(device="device='cdrom'"), "vm.no-disks"),
])
def test_refused(devices: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read(devices)
    assert refused.value.code == code
    assert "<" not in refused.value.as_dict()["message"].replace("<transient/>", "")


def test_refused_kinds() -> None:
    for options in ({"kind": "xen"}, {"os": "<type>exe</type>"}):
        with pytest.raises(Refused) as refused:
            read(disk(), **options)
        assert refused.value.code == "vm.kind"
    with pytest.raises(Refused) as refused:
        read(disk(), outside="<launchSecurity type='sev'/>")
    assert refused.value.code == "vm.confidential"


def test_plain_machine() -> None:
    vm = read(disk("<serial>S1</serial>")
              + disk("", kind="type='block'", source="dev='/dev/vg/a'", fmt="type='raw'",
                     bus="bus='scsi'").replace("'vda'", "'sda'")
              + "<controller type='scsi' index='0' model='virtio-scsi'/>"
              "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>"
              "<model type='e1000'/></interface><rng model='virtio'/>"
              "<channel type='unix'><target name='org.qemu.guest_agent.0'/></channel>"
              "<video><model type='virtio'/></video>",
              outside="<features><acpi/><pae/></features><clock offset='localtime'/>"
              "<cpu mode='custom'><model>Skylake</model><topology sockets='1' dies='1' cores='2' "
              "threads='1'/><feature policy='disable' name='hle'/></cpu>")
    assert (vm.memory, vm.vcpus, vm.machine, vm.virt) == (1024 * 1024, 2, "pc-q35-7.2", "kvm")
    first, second = vm.disks
    assert (first.id, first.boot_order, first.tracking, first.serial) == ("vda", 1, True, "S1")
    assert first.location == "/images/a.qcow2"
    assert (second.bus, second.controller, second.tracking) == ("scsi", "virtio-scsi", False)
    assert second.location == "/dev/vg/a"
    assert vm.nics == (NicSpec("52:54:00:00:00:01", "e1000", "bridge", "br0"),)
    assert vm.cpu == CpuSpec("custom", "Skylake", ("-hle",), 1, 2, 1)
    assert vm.features == ("acpi", "pae") and vm.clock == "localtime"
    assert vm.agent and vm.rng and vm.video == "virtio" and vm.power == "off"
    assert [w for w in vm.warnings if "sda is raw" in w]


def test_dropped_with_a_warning() -> None:
    vm = read(disk() + disk(device="device='cdrom'").replace("'vda'", "'sdb'")
              + "<filesystem type='mount'/><vsock model='virtio'/>"
              "<interface type='direct'><source dev='eth0'/><mac address='a'/></interface>",
              outside="<features><hyperv/></features><sysinfo type='smbios'/>"
              "<memoryBacking/><q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
              "<q:arg value='-x'/></q:commandline>",
              os="<type arch='x86_64'>hvm</type><kernel>/k</kernel>")
    text = "\n".join(vm.warnings)
    for word in ("filesystem", "vsock", "sdb", "direct", "hyperv", "sysinfo", "memoryBacking",
                 "commandline", "kernel"):
        assert word in text, word
    assert vm.nics[0].kind == "network" and len(vm.disks) == 1


def test_firmware() -> None:
    kind = "<type arch='x86_64'>hvm</type>"
    for extra, firmware in (
            ("<loader type='pflash'>/c</loader>", "efi"),
            ("<loader type='pflash' secure='yes'>/c</loader>", "efi-secure"),
            ("<firmware><feature enabled='yes' name='secure-boot'/></firmware>"
             "<loader type='pflash'>/c</loader>", "efi-secure"),
            ("", "bios")):
        assert read(disk(), os=kind + extra).firmware == firmware


def test_hostile_xml() -> None:
    for text in ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<a", "x" * (xmlsafe.MAX_CHARS + 1)):
        with pytest.raises(Refused) as refused:
            xmlsafe.parse(text)
        assert refused.value.code == "platform.xml"


def test_names() -> None:
    intent = Intent("0123abcd", 2, 34, 5)
    assert Intent.of_name(str(intent)) == intent
    assert Intent.of_name(f"{intent}.vda.scratch") == intent
    for name in ("hs-0123abcd-fo-t3", "hs-rx-0123abcd", "backup", "hs-0123ABCD-e1-t1-i1"):
        assert Intent.of_name(name) is None
    old, new = Intent("0123abcd", 2, 9, 1), Intent("0123abcd", 2, 10, 1)
    assert old.age < new.age
    assert is_ours(offline.helper_name(str(intent))) and is_ours("hs-rx-0123abcd")
    assert not is_ours("hs-web") and not is_ours("web")


def test_tags() -> None:
    tags = [jobs.Tag(1700000000.123, "quiesced"), jobs.Tag(1.0, "off")]
    tags += [jobs.Tag(1700000000.5, "crash", note) for note in jobs.NOTES]
    for tag in tags:
        assert jobs.Tag.of_export(tag.export("vda")) == tag
    for bad in ("vda", "vda.zz.q", "vda.1.x", "vda.1.c99"):
        with pytest.raises((ValueError, IndexError)):
            jobs.Tag.of_export(bad)


def test_socket_paths_are_short() -> None:
    assert socket_path("/s", "a.nbd") == "/s/a.nbd"
    with pytest.raises(GiveUp) as caught:
        socket_path("/" + "x" * 101, "a.nbd")
    assert caught.value.code == "platform.socket-path"


class FakeError:
    """A libvirtError with a number; the real ones cannot be made by hand."""

    def __init__(self, code: int, text: str, domain: int = 0) -> None:
        self._code, self._text, self._domain = code, text, domain

    def get_error_code(self) -> int:
        return self._code

    def get_error_message(self) -> str:
        return self._text

    def get_error_domain(self) -> int:
        return self._domain


@pytest.mark.parametrize(("error", "kind", "code"), [
    (FakeError(38, "Failed to connect socket to '/x': Connection refused", libvirt.VIR_FROM_RPC),
     Reconnect, "platform.unreachable"),
    (FakeError(38, "Failed to connect socket to '/x': Permission denied", libvirt.VIR_FROM_RPC),
     GiveUp, "platform.denied"),
    (FakeError(38, "Cannot recv data: Host key verification failed.: Connection reset by peer",
               libvirt.VIR_FROM_RPC), GiveUp, "ssh.host-key"),
    (FakeError(38, "Cannot recv data: u@h: Permission denied (publickey).: Connection reset",
               libvirt.VIR_FROM_RPC), GiveUp, "platform.auth"),
    (FakeError(1, "client socket is closed", libvirt.VIR_FROM_RPC), Reconnect,
     "platform.unreachable"),
    (FakeError(109, "checkpoint inconsistent: missing or broken bitmap 'n' for disk 'vdb'"),
     TrackingUnusable, "tracking.broken"),
    (FakeError(68, "Timed out during operation: cannot acquire state change lock"), Retry,
     "platform.busy"),
    (FakeError(86, "Guest agent is not responding"), Retry, "agent.unresponsive"),
    (FakeError(42, "Domain not found"), GiveUp, "vm.not-found"),
    (FakeError(84, "Operation not supported: domain has active block job"), Retry,
     "source.busy"),
    (FakeError(1, "internal error: qemu unexpectedly closed the monitor"), Retry,
     "platform.qemu-ended"),
    (FakeError(1, "internal error: process exited while connecting to monitor"), Retry,
     "platform.qemu-ended"),
    (FakeError(38, "Unable to write to monitor: Broken pipe"), Retry, "platform.qemu-ended"),
    (FakeError(1, "internal error: process exited while connecting to monitor: -vnc 127.0.0.1:0: "
               "Failed to find an available port: Address already in use"), Retry,
     "platform.qemu-ended"),
    (FakeError(1, "internal error: process exited while connecting to monitor: qemu-system-x86_64:"
                  " -device x: no such device"), GiveUp, "platform.failed"),
    (FakeError(1, "internal error: whatever"), GiveUp, "platform.failed"),
])
def test_translation(error: FakeError, kind: type, code: str) -> None:
    fault = translate(error)
    assert (type(fault), fault.code) == (kind, code)
    assert fault.as_dict()["message"]


def test_broken_disk_is_named() -> None:
    fault = translate(FakeError(109, "missing or broken bitmap 'n' for disk 'vdb'"))
    assert fault.fields["disk"] == "vdb"
