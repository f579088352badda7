"""A session libvirtd's storage pool, for the targets' tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt

from hotspare.domain.machine import VmDescription
from hotspare.platforms.libvirt.platform import LibvirtPlatform
from hotspare.platforms.port import PlatformAccess
from testbeds.kvm import Lab, SessionHost

from .target_rig import some_vm


class LibvirtTargetRig:
    """Implements :class:`TargetRig`."""

    network = "user"

    def __init__(self, lab: Lab, host: SessionHost, tmp: Path) -> None:
        self.lab, self.host, self.tmp = lab, host, tmp
        self.storage = lab.pool_name(host)
        self.directory = host.storage_dir

    @property
    def access(self) -> PlatformAccess:
        return PlatformAccess("test", "libvirt", self.host.uri,
                              {"socket_dir": str(self.host.socket_dir)})

    @contextmanager
    def platform(self) -> Iterator[LibvirtPlatform]:
        platform = LibvirtPlatform(self.access)
        try:
            yield platform
        finally:
            platform.close()

    def vm(self, name: str, disks: int, **options: Any) -> VmDescription:
        return some_vm(f"{name}-{os.urandom(2).hex()}", disks, **options)

    def refused(self, good: VmDescription) -> dict[str, VmDescription]:
        return {
            "target.machine": replace(good, machine="pc-i440fx-99.9"),
            "target.arch": replace(good, arch="s390x"),
            "target.cpu": replace(good, cpu=replace(good.cpu, mode="custom", model="M68000")),
            "vm.invalid": replace(good, machine="q35'/><!--")}

    def left(self, rule: str) -> set[str]:
        self.settle(rule)
        found = {p.name for p in self.directory.glob(f"hs-{rule}*")}
        found |= {p.name for p in self.host.socket_dir.glob(f"hs-rx-{rule}*")}
        return found | {d.name() for d in self.host.conn.listAllDomains() if rule in d.XMLDesc()}

    def settle(self, rule: str) -> None:
        """Wait until receivers that were told to end have ended."""
        end = time.monotonic() + 10
        while time.monotonic() < end and any(
                d.name().startswith(f"hs-rx-{rule}") for d in self.host.conn.listAllDomains()):
            time.sleep(0.02)

    def check_files(self, rule: str) -> None:
        """qemu-img check: 0 is sound; leaked clusters (3) come of killed QEMUs and cost space."""
        for path in self.directory.glob(f"hs-{rule}-*.qcow2"):
            done = subprocess.run(["qemu-img", "check", "-U", "-f", "qcow2", str(path)],
                                  capture_output=True, text=True, check=False)
            assert done.returncode in (0, 3), (path.name, done.stdout, done.stderr)

    def peek(self, file: str) -> bytes:
        raw = self.tmp / "peek.raw"
        subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw",
                        str(self.directory / file), str(raw)], check=True, capture_output=True)
        return raw.read_bytes()

    def disks_of(self, name: str) -> dict[str, bytes]:
        found = sorted(self.directory.glob(f"{name}-*.qcow2"))
        assert all(len(self.chain(p.name)) == 1 for p in found), "each stands on nothing"
        return {p.name.removeprefix(f"{name}-").split("-")[0]: self.peek(p.name) for p in found}

    def undefine(self, name: str) -> None:
        domain = self.host.conn.lookupByName(name)
        assert "urn:hotspare" not in domain.XMLDesc()
        if domain.isActive():
            domain.destroy()
        domain.undefine()
        for path in self.directory.glob(f"{name}-*.qcow2"):
            path.unlink()

    def chain(self, name: str) -> list[str]:
        """Names of a file and all below it."""
        done = subprocess.run(["qemu-img", "info", "-U", "--backing-chain", "--output=json",
                               str(self.directory / name)],
                              capture_output=True, check=True)
        return [Path(item["filename"]).name for item in json.loads(done.stdout)]

    def pool(self, name: str, directory: Path) -> None:
        """Define one more storage pool."""
        pool = self.host.conn.storagePoolDefineXML(
            f"<pool type='dir'><name>{name}</name><target><path>{directory}</path></target></pool>")
        pool.create()

    def drop_pool(self, name: str) -> None:
        try:
            pool = self.host.conn.storagePoolLookupByName(name)
            pool.destroy()
            pool.undefine()
        except libvirt.libvirtError:
            pass
