"""A real guest boots from a restore point, under BIOS and UEFI, and its journal is whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotspare.domain.lineage import DiskPoint, Manifest
from hotspare.platforms.port import Intent, ReplicaSpec, StartSpec
from testbeds.kvm import Guest, Lab, SessionHost

from .target_libvirt_rig import LibvirtTargetRig
from .target_rig import KEY

VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_guest_boots_from_a_point(
        lab: Lab, host_a: SessionHost, host_b: SessionHost, tmp_path: Path,
        guest_factory: Callable[..., Guest], firmware: str) -> None:
    if firmware == "uefi" and not VARS.exists():
        pytest.skip("no OVMF")
    rig = LibvirtTargetRig(lab, host_b, tmp_path)
    guest = guest_factory(host_a, name=f"boot-{firmware}", firmware=firmware)
    source = LibvirtTargetRig(lab, host_a, tmp_path)
    with source.platform() as platform:
        vm = platform.source.inspect(guest.name)
    nvram = None if firmware == "bios" else VARS.read_bytes()
    intent = Intent(os.urandom(4).hex(), 1, 1)
    name = guest.name + "-dr"
    with rig.platform() as platform:
        target, standby = platform.target(KEY), platform.standby(KEY)
        ref = target.ensure_replica(ReplicaSpec(intent.rule, name, rig.storage), vm, intent)
        session = target.begin(ref, vm.disks, None, intent)
        for disk, path in zip(vm.disks, guest.disk_paths, strict=True):
            with session.disks[disk.id].open() as endpoint:
                subprocess.run(["qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw",
                                str(path), endpoint.uri], check=True)
        table = tmp_path / "table"
        table.write_bytes(b"t")
        session.publish(Manifest(intent.rule, 1, 1, 1, 1.0, "off", vm,
                                 tuple(DiskPoint(d.id, d.size, "") for d in vm.disks)),
                        table, nvram)
        first = standby.start(ref, 1, StartSpec(name), replace(intent, task=2))
        replica = lab.guest(host_b, name)
        replica.wait_agent(90)
        seen = replica.verified()
        assert not seen.bad and seen.disks == 1
        replica.wait_records(seen.records + 3)
        xml = replica.domain().XMLDesc()
        assert f"<uuid>{vm.uuid}</uuid>" in xml
        if firmware == "uefi":
            assert replica.exec("test -d /sys/firmware/efi").rc == 0
            assert f"hs-{intent.rule}-fo-t2.nvram" in xml
        else:
            standby.stop(first, 30)     # through the guest
            assert standby.power(first) == "off"
        standby.discard(first)
        assert target.pinned(ref) == set()
        target.remove_replica(ref)
        assert rig.left(intent.rule) == set()
