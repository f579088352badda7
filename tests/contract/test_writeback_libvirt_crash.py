"""Kill the process, or the receiver's QEMU, at every step of a write-back: nothing that was
overwritten is ever lost, and what follows finds its way on."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import nbd
import pytest

import hotspare
from hotspare.domain.errors import Reconnect
from hotspare.domain.extents import BLOCK
from hotspare.platforms.libvirt import undo_disk
from hotspare.platforms.port import DirtyContext, Intent, Token, Unknown
from testbeds.kvm import Lab, SessionHost

from .strace_rig import Trace, needs_strace
from .target_rig import Reader
from .writeback_rig import (
    SOME,
    Machine,
    Make,
    blocks,
    changed,
    check_kept,
    ignore,
    needs_ovmf,
    overwrite,
    put_back,
)

WRITE = ("write-back.after-one-undo-disk", "write-back.after-undo-disks",
         "write-back.after-receiver", "preserve.in-copy", "preserve.before-flush",
         "preserve.after-flush", "child.after-write", "write-back.before-close")
POWER_ON = ("power-on.after-checkpoint", "power-on.after-tracking", "power-on.after-start")
FIRMWARE = ("firmware.after-create", "firmware.after-keep", "firmware.in-write")
CLEAR = ("clear.after-seals",)


@pytest.fixture
def make(lab: Lab, host_a: SessionHost) -> Iterator[Make]:
    made: list[Machine] = []

    def machine(*formats: str) -> Machine:
        made.append(Machine(lab, host_a, formats))
        return made[-1]

    yield machine
    for one in made:
        one.remove()


def child(machine: Machine, fault: str, **order: Any) -> None:
    """Run a child that is killed at ``fault``."""
    order = {"uri": machine.access.uri, "options": dict(machine.access.options),
             "vm": machine.name, "rule": machine.rule, **order}
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "contract.writeback_child", json.dumps(order)],
                          env={**os.environ, "HOTSPARE_FAULT": f"{fault}:kill"}, cwd=tests,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, (fault, done.returncode, done.stderr[-2000:])


def tracked(machine: Machine) -> Token:
    """A base of a published run; the machine is off afterwards."""
    machine.start()
    with machine.platform() as platform:
        base = machine.checkpoint(machine.intent(), platform)
    machine.stop()
    return base


def go_on(machine: Machine, before: dict[str, bytes], base: Token, origin: Intent,
          broken: bool) -> None:
    """The rest of the failback after a crash, and then its undo: all is as it was."""
    with machine.platform() as platform:
        writer = platform.write_back
        session = writer.open(machine.name, base, origin, 1)
        assert not session.untouched
        found = session.changes("vda")
        assert found == Unknown("tracking.broken") if broken else isinstance(found, DirtyContext)
        check_kept(machine, session, before)
        for disk in session.disks:
            overwrite(session, disk, SOME, 0xBB)
        check_kept(machine, session, before)
        put_back(session)
        session.close(sealed=False)
        assert machine.contents() == before
        writer.clear(machine.name, origin)
    assert set(machine.bitmaps("vda")) == {base["checkpoint"]}
    assert machine.left() == set()


@pytest.mark.parametrize("fault", WRITE)
def test_killed_while_writing(make: Make, fault: str) -> None:
    """A killed process leaves the receiver to libvirt, which ends it in order: tracking is good."""
    machine = make("qcow2", "raw")
    base, before = tracked(machine), machine.contents()
    origin = machine.intent()
    child(machine, fault, do="write", base=base, origin=origin.task)
    go_on(machine, before, base, origin, broken=False)


@pytest.mark.parametrize("fault", ["preserve.in-copy", "preserve.before-flush",
                                   "preserve.after-flush", "in-write", "after-write"])
def test_qemu_killed_while_writing(make: Make, monkeypatch: pytest.MonkeyPatch,
                                   fault: str) -> None:
    """What QEMU had not written yet of the undo disk's tables is lost with it."""
    machine = make("qcow2", "raw")
    base, before = tracked(machine), machine.contents()
    origin = machine.intent()

    def kill(name: str) -> None:
        if name == fault:
            monkeypatch.setattr(undo_disk, "fault_point", lambda name: None)
            machine.kill_receiver()

    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, base, origin, 1)
        assert session.preserve("vda", SOME[:2], ignore) == 2 * BLOCK
        with Reader(session.disks["vda"]) as handle:
            handle.pwrite(b"\xaa" * BLOCK, SOME[0].offset)  # and not flushed
        monkeypatch.setattr(undo_disk, "fault_point", kill)
        try:
            session.preserve("vda", SOME, ignore)
            with Reader(session.disks["vda"]) as handle:
                handle.pwrite(b"\xaa" * BLOCK, SOME[2].offset)
                kill("in-write")
                handle.pwrite(b"\xaa" * BLOCK, SOME[3].offset)
            kill("after-write")
            session.preserve("vda", SOME, ignore)
        except (Reconnect, nbd.Error):
            pass        # from preserve, or from the writer's own connection
        else:
            pytest.fail("it went on without its receiver")
        with pytest.raises(Reconnect):
            session.preserve("vda", SOME, ignore)
        session.close(sealed=True)
    go_on(machine, before, base, origin, broken=True)


@pytest.mark.parametrize("fault", POWER_ON)
def test_killed_while_starting(make: Make, fault: str) -> None:
    machine = make("qcow2", "raw")
    intent = machine.intent()
    child(machine, fault, do="power-on", origin=1, task=intent.task)
    assert machine.domain.isActive() == (fault == "power-on.after-start")
    with machine.platform() as platform:
        token = platform.write_back.power_on(machine.name, intent)
        assert token is not None and machine.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        machine.write("vda", 5 * BLOCK, BLOCK, 9)
        point = platform.source.open_point(machine.name, token, "off", machine.intent())
        assert changed(point.disks[0].export, point.disks[0].changes) == blocks(5)
        point.release()
        platform.source.sweep(machine.name, machine.rule, ())
        platform.write_back.clear(machine.name, intent)
    machine.stop()
    assert machine.bitmaps("vda") == {} and machine.left() == set()


@pytest.mark.parametrize("fault", POWER_ON[:2])
def test_killed_while_starting_and_given_up(make: Make, fault: str) -> None:
    """Its owner starts it, and the sweep finds what was laid down."""
    machine = make("qcow2")
    child(machine, fault, do="power-on", origin=1, task=1)
    machine.start()
    with machine.platform() as platform:
        platform.source.sweep(machine.name, machine.rule, ())
        platform.write_back.clear(machine.name, machine.intent())
    assert machine.domain.listAllCheckpoints() == []
    machine.stop()
    assert machine.bitmaps("vda") == {} and machine.left() == set()


@needs_ovmf
@pytest.mark.parametrize("fault", FIRMWARE)
def test_killed_with_uefi_variables(make: Make, fault: str) -> None:
    machine = make("qcow2")
    machine.efi()
    machine.start()
    machine.stop()
    made = machine.variables()
    assert made is not None
    origin = machine.intent()
    child(machine, fault, do="firmware", origin=origin.task, size=len(made))
    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        session.write_firmware_state(b"\xbb" * len(made))
        assert machine.variables() == b"\xbb" * len(made)
        session.restore_firmware_state()
        assert machine.variables() == made
        session.close(sealed=False)
        platform.write_back.clear(machine.name, origin)
    assert machine.left() == set()


@pytest.mark.parametrize("fault", CLEAR)
def test_killed_while_clearing(make: Make, fault: str) -> None:
    machine = make("qcow2")
    origin = machine.intent()
    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        overwrite(session, "vda", SOME, 0xAA)
        session.close(sealed=True)
    child(machine, fault, do="clear", origin=origin.task)
    with machine.platform() as platform:
        assert platform.write_back.undo_exists(machine.name, origin)
        platform.write_back.clear(machine.name, origin)
    assert machine.bitmaps("vda") == {} and machine.left() == set()


@needs_strace
def test_the_durable_order(make: Make, tmp_path: Path) -> None:
    """By system calls of the receiver: what preserve copied is on disk before the first byte is
    overwritten, and each of its tables only after the data that it points to."""
    machine = make("qcow2")
    origin = machine.intent()
    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        with Trace(machine.host, f"hs-rx-wb-{machine.rule}", tmp_path) as trace:
            overwrite(session, "vda", SOME, 0xAA)
            session.close(sealed=False)
        undo = machine.host.storage_dir / f"{origin}.vda.undo"
        tables, data = clusters(undo)
        calls = trace.calls()
        first = next(i for i, call in enumerate(calls)
                     if call.kind == "write" and call.file == machine.paths["vda"].name
                     and call.offset in clusters(machine.paths["vda"])[1])
        mine = [call for call in calls[:first] if call.file == undo.name]
        assert mine[-1].kind == "sync"
        written = {call.offset // BLOCK * BLOCK for call in mine if call.kind == "write"}
        assert data and data <= written and tables <= written
        unsynced = False
        for call in mine:
            place = call.offset // BLOCK * BLOCK
            assert not (call.kind == "write" and place in tables and unsynced)
            unsynced = call.kind == "write" and (unsynced or place in data)
        platform.write_back.clear(machine.name, origin)


def clusters(image: Path) -> tuple[set[int], set[int]]:
    """Offsets in a qcow2 file of its second-level tables, and of its clusters with data."""
    content = image.read_bytes()
    first, count = struct.unpack(">40xQ", content[:48])[0], struct.unpack(">36xI", content[:40])[0]
    mask = (1 << 56) - 512
    entries = struct.unpack(f">{count}Q", content[first:first + 8 * count])
    tables = {entry & mask for entry in entries if entry & mask}
    data = set()
    for table in tables:
        data |= {entry & mask for entry in struct.unpack(">8192Q", content[table:table + BLOCK])}
    return tables, data - {0}


def test_every_fault_point_is_tested() -> None:
    package = Path(hotspare.__file__).parent / "platforms/libvirt"
    found = {name for file in ("writeback", "undo_disk", "kept_firmware")
             for name in re.findall(r'fault_point\("([a-z.-]+)"\)',
                                    (package / f"{file}.py").read_text("utf-8"))}
    assert found == {*WRITE, *POWER_ON, *FIRMWARE, *CLEAR} - {"child.after-write"}
