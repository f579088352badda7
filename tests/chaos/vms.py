"""Tiny machines whose whole content is known at any time.

A machine has no operating system; the test writes to its disks from outside: through its QEMU
while it runs, so that dirty bitmaps see it, and with qemu-io while it is off.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import libvirt
import libvirt_qemu

from testbeds.kvm import procs

from .records import RECORD, Records

if TYPE_CHECKING:
    from testbeds.kvm import Lab

_WROTE = re.compile(rf"wrote {RECORD}/{RECORD} bytes at offset (\d+)")
_HMP = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP

Format = Literal["qcow2", "raw"]


class Vm:
    """One machine on host a. Thread-safe: who writes to it and who switches it take turns."""

    def __init__(self, lab: Lab, name: str, disks: int = 1, fmt: Format = "qcow2",
                 stride: int = 1, written: int = 256) -> None:
        """``written``: records that it is made with."""
        self.lab, self.name, self.fmt = lab, name, fmt
        self.records = Records(name, disks, stride)
        self.images = [lab.a.storage_dir / f"{name}-{i}.{fmt}" for i in range(disks)]
        self.lock = threading.Lock()
        # when each record was begun, and was durable; record k is at index k - 1
        self.begun: list[float] = [0.0] * written
        self.done: list[float] = [0.0] * written
        self._patterns = lab.dir / "patterns"
        self._patterns.mkdir(mode=0o755, exist_ok=True)
        for image, content in zip(self.images, self.records.content(written), strict=True):
            raw = image.with_suffix(".new")
            raw.write_bytes(content)
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", fmt, raw, image], check=True)
            raw.unlink()
            lab.identity.own(image)
        self._define()

    def _define(self) -> None:
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='{self.fmt}'/>"
            f"<source file='{image}'/><target dev='vd{'abcd'[i]}' bus='virtio'/></disk>"
            for i, image in enumerate(self.images))
        self.lab.a.conn.defineXML(
            f"<domain type='qemu'><name>{self.name}</name><memory unit='MiB'>16</memory>"
            "<vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>"
            f"<devices>{disks}<controller type='usb' model='none'/>"
            "<memballoon model='none'/></devices></domain>")

    def done_at(self, when: float) -> int:
        """How many records were durable at ``when`` (seconds since the epoch)."""
        return bisect_right(self.done, when)

    # --- writing -------------------------------------------------------------------------------

    def write(self, domain: Any, records: int) -> int:
        """Write that many records, as far as the machine lets us; how many."""
        with self.lock:
            before = len(self.done)
            numbers = range(before + 1, before + records + 1)
            if domain.isActive():
                self._through_qemu(domain, numbers)
            else:
                self._to_the_files(numbers)
            return len(self.done) - before

    def _begin(self, record: int, pattern: Path) -> str:
        """The command of qemu-io that writes it. One that failed before is begun once."""
        if record > len(self.begun):
            self.begun.append(time.time())
        pattern.write_bytes(self.records.line(record))
        return f"write -f -s {pattern} {self.records.place(record)[1] * RECORD} {RECORD}"

    def _landed(self, numbers: Sequence[int], said: str) -> bool:
        """Note which of the records qemu-io says are written; whether all are."""
        wrote = [int(offset) for offset in _WROTE.findall(said)]
        wanted = [self.records.place(record)[1] * RECORD for record in numbers]
        assert wrote == wanted[:len(wrote)], f"a record was written before an earlier one: {said}"
        self.done += [time.time()] * len(wrote)
        return len(wrote) == len(wanted)

    def _through_qemu(self, domain: Any, numbers: range) -> None:
        log = self.lab.a.base / f"cache/libvirt/qemu/log/{self.name}.log"
        pattern = self._patterns / self.name
        for record in numbers:
            command = self._begin(record, pattern)
            disk, _ = self.records.place(record)
            device = f"/machine/peripheral/virtio-disk{disk}/virtio-backend"
            seen = log.stat().st_size
            try:
                libvirt_qemu.qemuMonitorCommand(domain, f'qemu-io -d {device} "{command}"', _HMP)
            except libvirt.libvirtError:
                return          # its QEMU, or libvirtd, was killed; perhaps it is written
            # what qemu-io says goes to QEMU's standard output
            if not self._landed([record], log.read_bytes()[seen:].decode(errors="replace")):
                return

    def _to_the_files(self, numbers: range) -> None:
        for disk, run in groupby(numbers, lambda record: self.records.place(record)[0]):
            records = list(run)
            commands: list[str] = []
            for i, record in enumerate(records):
                commands += ["-c", self._begin(record, self._patterns / f"{self.name}.{i}")]
            said = subprocess.run(
                ["qemu-io", "-f", self.fmt, *commands, self.images[disk]], capture_output=True,
                text=True, check=False)
            if not self._landed(records, said.stdout):
                return          # it is being read, or was just started

    # --- power ---------------------------------------------------------------------------------

    def switch_on(self, domain: Any, paused: bool) -> bool:
        """False when it could not be started: its disks are being read."""
        with self.lock:
            try:
                domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
            except libvirt.libvirtError:
                return False
            return True

    def switch_off(self, domain: Any) -> None:
        with self.lock, suppress(libvirt.libvirtError):
            domain.destroy()

    def kill9(self) -> bool:
        """Kill its QEMU; false when there is none."""
        with self.lock:
            pid = self.lab.a.qemu_pids().get(self.name)
            if pid is None:
                return False
            procs.send(pid, signal.SIGKILL)
            return procs.wait_gone(pid, 10)


def read_image(path: Path, fmt: str) -> bytes:
    """What a disk reads as, also while QEMU has it open. Raises CalledProcessError."""
    with tempfile.NamedTemporaryFile(prefix="hs-content-") as raw:
        subprocess.run(["qemu-img", "convert", "-U", "-f", fmt, "-O", "raw", path, raw.name],
                       check=True, capture_output=True)
        return Path(raw.name).read_bytes()
