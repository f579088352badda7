"""A source machine takes back what its replica became, and can be put back block for block."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import libvirt
import pytest

from hotspare.domain.errors import (
    Fenced,
    ForeignChange,
    HotspareError,
    InstantLost,
    OutOfSpace,
    Reconnect,
    Refused,
    Retry,
    Stopped,
)
from hotspare.domain.extents import BLOCK, Extent, subtract
from hotspare.platforms.libvirt.receiver import Medium, Receiver
from hotspare.platforms.port import DirtyContext, Intent, Unknown, WriteBackSession
from testbeds.kvm import Lab, SessionHost

from .target_rig import content_of
from .writeback_rig import (
    MIB,
    ODD,
    SOME,
    Machine,
    Make,
    blocks,
    changed,
    ignore,
    needs_ovmf,
    overwrite,
    put_back,
)


@pytest.fixture
def make(lab: Lab, host_a: SessionHost) -> Iterator[Make]:
    made: list[Machine] = []

    def machine(*formats: str, size: int = ODD) -> Machine:
        made.append(Machine(lab, host_a, formats, size))
        return made[-1]

    yield machine
    for one in made:
        one.remove()


def refused(code: str, machine: Machine, origin: Intent) -> HotspareError:
    with machine.platform() as platform, pytest.raises(HotspareError) as caught:
        platform.write_back.open(machine.name, None, origin, 1)
    assert caught.value.code == code
    return caught.value


# --- the undo disk -------------------------------------------------------------------------------


def test_what_is_overwritten_comes_back(make: Make) -> None:
    machine = make("qcow2", "raw")
    before = machine.contents()
    origin = machine.intent()
    with machine.platform() as platform:
        writer = platform.write_back
        assert not writer.undo_exists(machine.name, origin)
        session = writer.open(machine.name, None, origin, 1)
        assert set(session.disks) == {"vda", "vdb"} and session.vm.name == machine.name
        assert [session.preserved(d) for d in session.disks] == [None, None]
        assert session.changes("vda") == Unknown("first-copy")
        assert session.changes("vdb") == Unknown("tracking.raw")
        for disk in session.disks:
            assert overwrite(session, disk, SOME, 0xAA) == 4 * BLOCK + ODD % BLOCK
            # what is kept is not kept again: by now it is our own data
            assert overwrite(session, disk, [*blocks(0, 1), *SOME[1:]], 0xBB) == BLOCK
        session.close(sealed=False)
        session.close(sealed=False)
        for disk in before:
            now = machine.content(disk)
            assert now[:2 * BLOCK] == b"\xbb" * 2 * BLOCK and now != before[disk]
        session = writer.open(machine.name, None, origin, 1)
        for disk in session.disks:
            kept = session.preserved(disk)
            assert kept is not None and kept.size == ODD
            held = changed(kept.export, kept.holds)
            assert held == [Extent(0, 2 * BLOCK), *SOME[1:4], Extent(64 * BLOCK, ODD % BLOCK)]
            old = content_of(kept.export)
            assert [old[e.offset:e.end] for e in held] == [
                before[disk][e.offset:e.end] for e in held]
        put_back(session)
        session.close(sealed=False)
        assert machine.contents() == before
        assert writer.undo_exists(machine.name, origin)
        assert {leftover.kind for leftover in writer.clear(machine.name, origin)} == {"undo"}
        assert not writer.undo_exists(machine.name, origin)
        assert writer.clear(machine.name, origin) == []
    assert machine.left() == set()


def test_a_disk_over_others(make: Make) -> None:
    """A layer of an external snapshot is written; what is below stays as it was."""
    machine = make("qcow2")
    machine.start()
    machine.domain.snapshotCreateXML(
        "<domainsnapshot><name>s</name><disks><disk name='vda' snapshot='external'/></disks>"
        "</domainsnapshot>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    machine.stop()
    below, machine.paths["vda"] = machine.paths["vda"], machine.paths["vda"].with_suffix(".s")
    untouched, before = below.read_bytes(), machine.contents()
    origin = machine.intent()
    with machine.platform() as platform:
        writer = platform.write_back
        session = writer.open(machine.name, None, origin, 1)
        overwrite(session, "vda", SOME, 0xAA)
        assert content_of(session.disks["vda"])[:BLOCK] == b"\xaa" * BLOCK
        put_back(session)
        session.close(sealed=False)
        writer.clear(machine.name, origin)
    assert machine.contents() == before and below.read_bytes() == untouched
    machine.domain.snapshotLookupByName("s").delete(
        libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    below.unlink()


def test_a_disk_that_grew(make: Make) -> None:
    """Its tail reads as zero and is not preserved; undo makes it as small as it was."""
    machine = make("qcow2", "raw")
    machine.start()
    with machine.platform() as platform:
        token = machine.checkpoint(machine.intent(), platform)
    machine.stop()
    before = machine.contents()
    origin = machine.intent()
    size = ODD + MIB + 512
    tail = [Extent(64 * BLOCK, 16 * BLOCK)]
    with machine.platform() as platform:
        writer = platform.write_back
        session = writer.open(machine.name, token, origin, 1)
        for disk in session.disks:
            for _ in range(2):
                session.resize(disk, size)
            assert content_of(session.disks[disk]) == before[disk] + bytes(size - ODD)
            assert overwrite(session, disk, tail, 0xAA) == ODD % BLOCK
        assert isinstance(session.changes("vda"), DirtyContext)
        assert changed(session.disks["vda"], session.changes("vda")) == []
        session.close(sealed=True)
        session = writer.open(machine.name, token, origin, 1)
        found = session.changes("vda")
        assert Extent(64 * BLOCK, 16 * BLOCK) in changed(session.disks["vda"], found)
        for disk in session.disks:
            with pytest.raises(Refused) as caught:
                session.resize(disk, ODD - 512)
            assert caught.value.code == "disk.not-smaller"
            kept = session.preserved(disk)
            assert kept is not None and kept.size == ODD
        put_back(session)
        session.close(sealed=False)
        writer.clear(machine.name, origin)
    assert machine.contents() == before
    assert machine.bitmaps("vda") == {token["checkpoint"]: ["auto"]}


def test_many_ranges_and_a_stop(make: Make) -> None:
    """More than one request can hold, and more than one batch; stopped between two."""
    machine = make("qcow2", size=256 * MIB)
    machine.write("vda", 0, 200 * MIB, 7)
    origin = machine.intent()
    scattered = [Extent(2 * n * BLOCK, BLOCK) for n in range(1024)]
    large = [Extent(128 * MIB, 128 * MIB)]
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        assert total == 256 * MIB
        seen.append(done)
        if len(seen) == 2:
            raise Stopped("task.stopped")

    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        assert session.preserve("vda", scattered, ignore) == 64 * MIB
        with pytest.raises(Stopped):
            session.preserve("vda", large, stop)
        assert seen == [192 * MIB, 256 * MIB]
        everything = [Extent(0, 256 * MIB)]
        copied = session.preserve("vda", everything, ignore)
        assert copied == 64 * MIB
        kept = session.preserved("vda")
        assert kept is not None and changed(kept.export, kept.holds) == everything
        assert content_of(kept.export) == machine.content("vda")
        session.close(sealed=False)
        platform.write_back.clear(machine.name, origin)


def test_an_undo_disk_that_was_deleted(make: Make) -> None:
    """What is overwritten already would be taken for what was there before."""
    machine = make("qcow2", "qcow2")
    origin = machine.intent()
    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        overwrite(session, "vdb", SOME, 0xAA)
        session.close(sealed=False)
        (machine.host.storage_dir / f"{origin}.vdb.undo").unlink()
        for _ in range(2):
            with pytest.raises(ForeignChange) as caught:
                platform.write_back.open(machine.name, None, origin, 1)
            assert caught.value.code == "undo.missing" and caught.value.fields["disk"] == "vdb"
        # its owner makes it a machine that is not understood: what stays is told
        machine.define(machine.xml("<hostdev mode='subsystem' type='usb'><source startupPolicy="
                                   "'optional'><vendor id='0x1'/><product id='0x1'/></source>"
                                   "</hostdev>"))
        left, = platform.write_back.clear(machine.name, origin)
        assert left.error and machine.left()
        machine.define(machine.xml())
        platform.write_back.clear(machine.name, origin)
    assert machine.left() == set()


def test_no_space_for_the_undo_disk(make: Make) -> None:
    machine = make("qcow2", size=32 * MIB)
    machine.write("vda", 0, 32 * MIB, 7)
    before = machine.content("vda")
    place = machine.host.base / "small"
    place.mkdir(exist_ok=True)
    uid, gid = machine.host.identity.uid, machine.host.identity.gid
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=8m,uid={uid},gid={gid}", "none",
                           str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        machine.options["scratch_dir"] = str(place)
        origin = machine.intent()
        with machine.platform() as platform:
            session = platform.write_back.open(machine.name, None, origin, 1)
            overwrite(session, "vda", blocks(3), 0xAA)
            with pytest.raises(OutOfSpace) as caught:
                session.preserve("vda", [Extent(MIB, 24 * MIB)], ignore)
            assert caught.value.code == "host.no-space"
            kept = session.preserved("vda")
            assert kept is not None
            held = changed(kept.export, kept.holds)
            assert list(subtract(blocks(3), held)) == []
            put_back(session)
            session.close(sealed=False)
            assert machine.content("vda") == before
            platform.write_back.clear(machine.name, origin)
        assert machine.left() == set()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


# --- who may write -------------------------------------------------------------------------------


def test_what_is_refused(make: Make) -> None:
    machine = make("qcow2")
    origin = machine.intent()
    machine.start()
    refused("source.runs", machine, origin)     # paused is not off
    machine.domain.managedSave(0)
    refused("source.saved", machine, origin)
    with machine.platform() as platform, pytest.raises(Refused) as caught:
        platform.write_back.power_on(machine.name, origin)
    assert caught.value.code == "source.saved" and not machine.domain.isActive()
    machine.domain.managedSaveRemove(0)
    machine.define(machine.xml().replace("<target dev='vda'", "<readonly/><target dev='vda'"))
    refused("disk.read-only", machine, origin)
    machine.define(machine.xml().replace("type='qcow2'", "type='raw'").replace(
        "<target dev='vda'", "<shareable/><target dev='vda'"))
    refused("disk.shareable", machine, origin)
    machine.define(machine.xml())
    with machine.platform() as platform, Receiver(
            platform.connection, f"hs-rx-{machine.rule}", [Medium("x", str(machine.paths["vda"]))]):
        busy = refused("source.disk-busy", machine, origin)
        assert isinstance(busy, Retry)
    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        with pytest.raises(libvirt.libvirtError, match="lock"):
            machine.domain.create()
        session.close(sealed=False)
        machine.start()
        platform.write_back.clear(machine.name, origin)
    assert machine.left() == set()


def test_the_later_of_two_writes(make: Make) -> None:
    """The same task again ends its own earlier session; a higher epoch keeps a lower one out."""
    machine = make("qcow2")
    origin = machine.intent()
    with machine.platform() as one, machine.platform() as two:
        first = one.write_back.open(machine.name, None, origin, 1)
        second = two.write_back.open(machine.name, None, origin, 1)
        with pytest.raises(Reconnect):
            first.preserve("vda", SOME, ignore)
        first.close(sealed=True)
        assert overwrite(second, "vda", SOME, 0xAA)
        third = one.write_back.open(machine.name, None, origin, 2)
        with pytest.raises(Reconnect):
            second.preserve("vda", SOME, ignore)
        with pytest.raises(Fenced):
            two.write_back.open(machine.name, None, origin, 1)
        assert third.preserved("vda") is not None
        third.close(sealed=False)
        with pytest.raises(Fenced):
            two.write_back.open(machine.name, None, origin, 1)
        one.write_back.clear(machine.name, origin)
    assert machine.left() == set()


def test_readers_of_its_own_rule(make: Make) -> None:
    """One that an earlier task left on these disks is ended; one that reads other disks is not:
    source and target may be one host."""
    machine, replica = make("qcow2"), make("qcow2")
    with machine.platform() as platform:
        lost = platform.source.open_point(machine.name, None, "off", machine.intent())
        other = platform.source.open_point(replica.name, None, "off", machine.intent())
        origin = machine.intent()
        session = platform.write_back.open(machine.name, None, origin, 1)
        with pytest.raises(InstantLost):
            lost.healthy()
        other.healthy()
        assert content_of(other.disks[0].export) == replica.content("vda")
        session.close(sealed=False)
        other.release()
        lost.release()
        platform.write_back.clear(machine.name, origin)
    assert machine.left() == set()


def test_two_machines_at_once(make: Make) -> None:
    machines = [make("qcow2"), make("raw")]
    with machines[0].platform() as one, machines[1].platform() as two:
        platforms = [one, two]
        sessions: list[WriteBackSession] = []
        origins = [m.intent() for m in machines]
        before = [m.contents() for m in machines]
        for machine, platform, origin in zip(machines, platforms, origins, strict=True):
            sessions.append(platform.write_back.open(machine.name, None, origin, 1))
        for session in sessions:
            overwrite(session, "vda", SOME, 0xAA)
        for session in sessions:
            put_back(session)
            session.close(sealed=False)
        assert [m.contents() for m in machines] == before
        for machine, platform, origin in zip(machines, platforms, origins, strict=True):
            platform.write_back.clear(machine.name, origin)
    assert all(m.left() == set() for m in machines)


# --- what changed --------------------------------------------------------------------------------


def test_untouched(make: Make) -> None:
    machine = make("qcow2", "qcow2")
    origin = machine.intent()

    def look(sealed: bool = True) -> bool:
        with machine.platform() as platform:
            session = platform.write_back.open(machine.name, None, origin, 1)
            # what we write ourselves, before we seal, does not count
            overwrite(session, "vdb", SOME, 0xAA)
            found = session.untouched
            session.close(sealed)
            return found

    assert [look(), look(), look()] == [False, True, True]
    machine.start()
    machine.stop()
    assert look()
    machine.start()
    machine.write("vdb", 0, 512, 9)
    machine.stop()
    assert not look()
    assert look()
    machine.write("vda", 0, 512, 9)             # another program
    assert not look()
    machine.start()
    machine.kill9()                             # what it wrote is not known
    assert not look()
    assert look(sealed=False)
    assert not look()
    assert f"{origin}.seal" in machine.bitmaps("vda")
    # somebody starts the machine while it is sealed: it is cleared all the same
    machine.start()
    with machine.platform() as platform:
        platform.write_back.clear(machine.name, origin)
    machine.stop()
    assert machine.bitmaps("vda") == {} == machine.bitmaps("vdb")
    assert not look()
    with machine.platform() as platform:
        platform.write_back.clear(machine.name, origin)     # and while it is off
    assert machine.bitmaps("vda") == {} and machine.left() == set()


def test_a_raw_disk_cannot_be_sealed(make: Make) -> None:
    machine = make("qcow2", "raw")
    origin = machine.intent()
    with machine.platform() as platform:
        for _ in range(2):
            session = platform.write_back.open(machine.name, None, origin, 1)
            assert not session.untouched
            session.close(sealed=True)
        platform.write_back.clear(machine.name, origin)
    assert machine.bitmaps("vda") == {}


def test_changes_since_a_base(make: Make) -> None:
    """Also since one that is not the newest, whether it is read here or by the source role. What
    the session writes is not among them."""
    machine = make("qcow2", "raw")
    machine.start()
    with machine.platform() as platform:
        # tokens of the source role; a commit drops older checkpoints, so these are not committed
        base = machine.checkpoint(machine.intent(), platform)
        machine.write("vda", 5 * BLOCK, BLOCK, 9)
        machine.mark(machine.intent())
        machine.write("vda", 9 * BLOCK, BLOCK, 9)
        machine.stop()
        # off: the source role sees all
        point = platform.source.open_point(machine.name, base, "off", machine.intent())
        assert changed(point.disks[0].export, point.disks[0].changes) == blocks(5, 9)
        point.release()
        origin = machine.intent()
        session = platform.write_back.open(machine.name, base, origin, 1)
        assert changed(session.disks["vda"], session.changes("vda")) == blocks(5, 9)
        assert session.changes("vdb") == Unknown("tracking.raw")
        overwrite(session, "vda", blocks(20), 0xAA)
        assert changed(session.disks["vda"], session.changes("vda")) == blocks(5, 9)
        session.close(sealed=True)
        session = platform.write_back.open(machine.name, base, origin, 1)
        assert changed(session.disks["vda"], session.changes("vda")) == blocks(5, 9, 20)
        machine.kill_receiver()
        session = platform.write_back.open(machine.name, base, origin, 1)
        assert session.changes("vda") == Unknown("tracking.broken")
        session.close(sealed=False)
        lost = {**base, "checkpoint": str(Intent(machine.rule, 1, 99))}
        session = platform.write_back.open(machine.name, lost, origin, 1)
        assert session.changes("vda") == Unknown("tracking.broken")
        session.close(sealed=False)
        platform.write_back.clear(machine.name, origin)


def test_the_next_run_is_incremental(make: Make) -> None:
    """What a failback wrote, and what the machine wrote since it was started again, is what the
    next run of the rule reads; it leaves one checkpoint and no bitmap but that one's."""
    machine = make("qcow2", "qcow2")
    machine.start()
    with machine.platform() as platform:
        head = machine.checkpoint(machine.intent(), platform)
        machine.stop()
        origin = machine.intent()
        writer = platform.write_back
        session = writer.open(machine.name, head, origin, 1)
        overwrite(session, "vda", blocks(3), 0xAA)
        session.close(sealed=True)
        session = writer.open(machine.name, head, origin, 1)
        assert session.untouched
        overwrite(session, "vda", blocks(30), 0xBB)
        session.close(sealed=False)
        switched = writer.power_on(machine.name, machine.intent())
        assert switched is not None
        machine.write("vda", 40 * BLOCK, BLOCK, 0xCC)
        writer.clear(machine.name, origin)
        point = platform.source.open_point(machine.name, head, "off", machine.intent())
        found = [changed(d.export, d.changes) for d in point.disks]
        assert found == [blocks(3, 30, 40), []]
        point.commit()
        kept = point.token
        assert kept is not None
        assert [c.getName() for c in machine.domain.listAllCheckpoints()] == [kept["checkpoint"]]
        machine.stop()
        assert set(machine.bitmaps("vda")) == {kept["checkpoint"]}
    assert machine.left() == set()


def test_a_run_after_a_killed_receiver_compares(make: Make) -> None:
    machine = make("qcow2")
    machine.start()
    with machine.platform() as platform:
        head = machine.checkpoint(machine.intent(), platform)
        machine.stop()
        origin = machine.intent()
        session = platform.write_back.open(machine.name, head, origin, 1)
        overwrite(session, "vda", blocks(3), 0xAA)
        machine.kill_receiver()
        with pytest.raises(Reconnect):
            session.preserve("vda", blocks(4), ignore)
        platform.write_back.clear(machine.name, origin)
        off = platform.source.open_point(machine.name, head, "off", machine.intent())
        assert [d.changes for d in off.disks] == [Unknown("tracking.broken")]
        off.release()
        # a start with tracking works over what is broken, and so do the runs after it
        switched = platform.write_back.power_on(machine.name, machine.intent())
        assert switched is not None
        point = platform.source.open_point(machine.name, head, "off", machine.intent())
        assert [d.changes for d in point.disks] == [Unknown("tracking.broken")]
        point.commit()
        machine.write("vda", 0, 512, 9)
        again = platform.source.open_point(machine.name, point.token, "off", machine.intent())
        assert changed(again.disks[0].export, again.disks[0].changes) == blocks(0)
        again.commit()
        assert len(machine.domain.listAllCheckpoints()) == 1


def test_started_with_tracking(make: Make) -> None:
    machine = make("qcow2", "raw")
    origin, intent = machine.intent(), machine.intent()
    with machine.platform() as platform:
        writer = platform.write_back
        token = writer.power_on(machine.name, intent)
        assert token is not None and machine.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        assert platform.source.token_name(token) == str(intent) and set(token["disks"]) == {"vda"}
        machine.write("vda", 5 * BLOCK, BLOCK, 9)
        assert writer.power_on(machine.name, intent) == token
        # off, and on again by the same intent: what it wrote in the meantime stays known
        machine.stop()
        assert writer.power_on(machine.name, intent) == token
        machine.write("vda", 9 * BLOCK, BLOCK, 9)
        machine.stop()
        session = writer.open(machine.name, token, origin, 1)
        assert changed(session.disks["vda"], session.changes("vda")) == blocks(5, 9)
        assert session.changes("vdb") == Unknown("tracking.raw")
        session.close(sealed=False)
        writer.clear(machine.name, origin)
        # killed: what it wrote is not known any more
        writer.power_on(machine.name, intent)
        machine.kill9()
        assert writer.power_on(machine.name, intent) is None
        # somebody else started it before
        assert machine.domain.isActive() and writer.power_on(machine.name, machine.intent()) is None
        platform.source.sweep(machine.name, machine.rule, ())
        assert machine.domain.listAllCheckpoints() == []
    assert machine.left() == set()


def test_started_without_tracking(make: Make) -> None:
    machine = make("raw")
    with machine.platform() as platform:
        assert platform.write_back.power_on(machine.name, machine.intent()) is None
        assert machine.domain.isActive()
    old = make("qcow2")
    subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10",
                    str(old.paths["vda"])], check=True)
    with old.platform() as platform:
        origin = old.intent()
        session = platform.write_back.open(old.name, None, origin, 1)
        overwrite(session, "vda", SOME, 0xAA)
        session.close(sealed=True)
        assert platform.write_back.power_on(old.name, old.intent()) is None
        assert old.domain.isActive() and old.domain.listAllCheckpoints() == []
        platform.write_back.clear(old.name, origin)
    assert old.left() == set()


def test_cleared_when_the_machine_is_gone(make: Make) -> None:
    machine = make("qcow2")
    origin = machine.intent()
    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        del session     # a process that was lost: its receiver is still there
        machine.undefine()
        gone = platform.write_back.clear(machine.name, origin)
        assert [leftover.kind for leftover in gone] == ["domain", "socket"]
        machine.define(machine.xml())
        platform.write_back.clear(machine.name, origin)
    assert machine.left() == set()


# --- UEFI variables ------------------------------------------------------------------------------


@needs_ovmf
@pytest.mark.parametrize("chosen", [True, False])
def test_uefi_variables(make: Make, chosen: bool) -> None:
    machine = make("qcow2")
    machine.efi(chosen)
    origin, state = machine.intent(), machine.variables
    with machine.platform() as platform:
        writer = platform.write_back
        # it has never run: it has none, and is left with none, whoever makes them
        session = writer.open(machine.name, None, origin, 1)
        session.preserve_firmware()
        if chosen:      # where libvirt chooses, it makes the directory as well
            session.write_firmware_state(bytes(528 * 1024))
            assert state() == bytes(528 * 1024)
        session.restore_firmware_state()
        session.restore_firmware_state()
        session.close(sealed=False)
        assert state() is None
        machine.start()
        machine.stop()
        made = state()
        assert made is not None
        session = writer.open(machine.name, None, origin, 1)
        session.restore_firmware_state()
        session.close(sealed=False)
        writer.clear(machine.name, origin)
        assert state() is None
        # with some: the first are kept, the last are there
        machine.start()
        machine.stop()
        assert state() == made
        origin = machine.intent()
        session = writer.open(machine.name, None, origin, 1)
        session.restore_firmware_state()
        assert state() == made
        new = [bytes([n]) * len(made) for n in (1, 2)]
        session.write_firmware_state(new[0])
        session.write_firmware_state(new[1])
        assert state() == new[1]
        with pytest.raises(Refused) as caught:
            session.write_firmware_state(new[1] + bytes(512))
        assert caught.value.code == "firmware.size"
        session.close(sealed=False)
        session = writer.open(machine.name, None, origin, 1)
        session.preserve_firmware()
        session.restore_firmware_state()
        session.close(sealed=False)
        assert state() == made
        writer.clear(machine.name, origin)
    assert machine.left() == set()


def test_a_bios_has_no_variables(make: Make) -> None:
    machine = make("qcow2")
    origin = machine.intent()
    with machine.platform() as platform:
        session = platform.write_back.open(machine.name, None, origin, 1)
        session.preserve_firmware()
        session.restore_firmware_state()
        with pytest.raises(Refused):
            session.write_firmware_state(bytes(512))
        session.close(sealed=False)
        platform.write_back.clear(machine.name, origin)
    assert machine.left() == set()
