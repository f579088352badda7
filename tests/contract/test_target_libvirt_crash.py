"""Kill the process, or the receiver's QEMU, at every step: what follows finds its way on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hotspare
from hotspare.domain.codec import encode
from hotspare.domain.errors import HotspareError, SealMissing
from hotspare.domain.lineage import DiskPoint, Manifest
from hotspare.platforms.libvirt import retire
from hotspare.platforms.port import Intent, StartSpec, Target
from testbeds.kvm import Lab, SessionHost
from testbeds.kvm.procs import wait_for, wait_gone

from .strace_rig import Trace, needs_strace
from .target_libvirt_rig import LibvirtTargetRig
from .target_rig import BLOCK, KEY, Model

PUBLISH = ("begin.after-volumes", "begin.after-receiver", "publish.before-digests",
           "publish.after-digests", "publish.before-lineage", "publish.after-lineage",
           "publish.after-seal")
RETIRE = ("retire.after-mark", "retire.in-commit", "retire.after-commit", "retire.after-seal",
          "retire.after-lineage", "retire.after-delete")
STANDBY = ("standby.after-volumes", "standby.after-define", "standby.after-start",
           "standby.after-checkpoint", "discard.after-mark", "discard.after-destroy",
           "discard.after-volumes")
CLEAR = ("rehearsal.after-destroy", "rehearsal.after-undefine", "rehearsal.after-volumes")
KEEP = ("keep.after-mark", "keep.after-create", "keep.after-begin", "keep.after-pivot",
        "keep.suspended", "keep.after-flush", "keep.after-layers")


@pytest.fixture
def rig(lab: Lab, host_b: SessionHost, tmp_path: Path) -> LibvirtTargetRig:
    return LibvirtTargetRig(lab, host_b, tmp_path)


def child(rig: LibvirtTargetRig, model: Model, fault: str, **order: Any) -> None:
    """Run a child that is killed at ``fault``."""
    access = rig.access
    order = {"access": [access.kind, access.uri, dict(access.options), access.secret],
             "rule": model.rule, "storage": rig.storage, "epoch": model.epoch,
             "task": model.task, **order}
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "contract.target_child", json.dumps(order)],
                          env={**os.environ, "HOTSPARE_FAULT": f"{fault}:kill",
                               "PYTHONPATH": f"{tests}:{Path(hotspare.__file__).parents[1]}"},
                          cwd=tests, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, (fault, done.returncode, done.stderr[-2000:])


def prepared(rig: LibvirtTargetRig, target: Target, points: int, disks: int = 2) -> Model:
    model = Model(rig, rig.vm("crash", disks))
    model.ensure(target)
    for _ in range(points):
        model.cycle(target)
    return model


def converge(target: Target, model: Model, intent: Intent, manifest: Manifest) -> None:
    """What a workflow does after a crash of the run of ``intent``."""
    head = target.lineage(model.ref).head
    if head is not None and head.task == intent.task:
        session = target.begin(model.ref, model.vm.disks, None, intent)
        assert session.publish(manifest, model.digests, None) == head
        model.remember(head.number)
        return
    assert head is not None
    for attempt in (1, 2):
        try:
            session = target.begin(model.ref, model.vm.disks, head.number, intent)
            break
        except SealMissing:
            assert attempt == 1
            target.seal(model.ref, head.number)
    # the journal would tell what is there; to write everything again is right in any case
    model.change(session, blocks=0)
    for disk_id, writes in _writes(model).items():
        with session.disks[disk_id].open() as endpoint:
            import nbd

            handle = nbd.NBD()
            handle.connect_uri(endpoint.uri)
            for at, byte, length in writes:
                handle.pwrite(bytes([byte]) * length, at)
            handle.shutdown()
    model.publish(session, intent, b"firmware" * 512)


def _writes(model: Model) -> dict[str, list[tuple[int, int, int]]]:
    return {d.id: [(i * 7 * BLOCK, model.task, BLOCK) for i in range(12)]
            for d in model.vm.disks}


@pytest.mark.parametrize("fault", PUBLISH)
def test_killed_on_the_way_to_a_point(rig: LibvirtTargetRig, fault: str) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = prepared(rig, target, 1)
        intent = model.intent()
        manifest = Manifest(model.rule, 2, 1, intent.task, 1.0, "crash", model.vm,
                            tuple(DiskPoint(d.id, d.size, "") for d in model.vm.disks))
        writes = _writes(model)
        child(rig, model, fault, do="publish", base=1, writes=writes, manifest=encode(manifest),
              digests=str(model.digests))
        for disk_id, pieces in writes.items():
            for at, byte, length in pieces:
                model.now[disk_id][at:at + length] = bytes([byte]) * length
        published = target.lineage(model.ref).last_number
        assert published == (2 if fault in PUBLISH[5:] else 1)
        target.sweep(model.ref, [str(intent)])      # the intent's files are kept
        converge(target, model, intent, manifest)
        target.sweep(model.ref, [])
        # and the next run stands on it; the seal may have been lost with the receiver
        head = target.lineage(model.ref).head
        assert head is not None
        try:
            model.cycle(target)
        except SealMissing:
            assert fault == "publish.after-lineage"
            target.seal(model.ref, head.number)
            model.cycle(target)
        model.check(target, port=False)
        target.remove_replica(model.ref)
        assert rig.left(model.rule) == set()


@pytest.mark.parametrize(("head", "fault"), [
    *((False, fault) for fault in RETIRE if fault != "retire.after-seal"),
    *((True, fault) for fault in ("retire.in-commit", "retire.after-commit", "retire.after-seal",
                                  "retire.after-lineage"))])
def test_killed_in_a_merge(rig: LibvirtTargetRig, head: bool, fault: str) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = prepared(rig, target, 2 if head else 3)
        folded = rig.tmp / "folded"
        folded.write_bytes(b"folded")
        child(rig, model, fault, do="retire", number=1, folded=str(folded))
        gone = fault in ("retire.after-lineage", "retire.after-delete")
        usable = [n for n in model.points if n != 1]
        assert [p.number for p in target.lineage(model.ref).usable] == usable
        if fault == "retire.in-commit":
            model.check(target, usable, port=False)     # half merged: the others read as ever
        if not gone:
            with pytest.raises(HotspareError) as caught:
                platform.standby(KEY).start(model.ref, 1, StartSpec("no"), model.intent())
            assert caught.value.code == "point.retiring"
        target.sweep(model.ref, [])
        if not gone:
            model.cycle(target)             # replication goes on over a half merged chain
        lineage = target.retire(model.ref, 1, folded, lambda done, total: None)
        del model.points[1]
        assert lineage.retiring is None and len(lineage.points) == len(model.points)
        target.sweep(model.ref, [])
        model.cycle(target)
        model.check(target, port=False)
        assert b"".join(target.read_blob(
            model.ref, target.lineage(model.ref).points[0].digests[0].name)) == b"folded"
        target.remove_replica(model.ref)
        assert rig.left(model.rule) == set()


@pytest.mark.parametrize("fault", STANDBY)
def test_killed_in_a_failover(rig: LibvirtTargetRig, fault: str) -> None:
    with rig.platform() as platform:
        target, standby = platform.target(KEY), platform.standby(KEY)
        model = prepared(rig, target, 2)
        before = rig.left(model.rule)
        intent = model.intent()
        name = f"{model.vm.name}-replica"
        what = "start" if fault.startswith("standby") else "discard"
        child(rig, model, fault, do=what, number=1, name=name)
        if fault != "discard.after-volumes":
            assert target.pinned(model.ref) == {1}
        target.sweep(model.ref, [str(intent)])
        running = standby.start(model.ref, 1, StartSpec(name), intent)
        assert standby.power(running) == "running" and standby.find(model.ref) == running
        domain = rig.host.conn.lookupByName(name)
        assert [c.getName() for c in domain.listAllCheckpoints()] == [
            f"hs-{model.rule}-fo-t{intent.task}"]
        standby.discard(running)
        assert rig.left(model.rule) == before
        model.check(target, port=False)
        target.remove_replica(model.ref)


@pytest.mark.parametrize("fault", (*(f for f in STANDBY[:3]), *CLEAR))
def test_killed_in_a_test(rig: LibvirtTargetRig, fault: str) -> None:
    """Nothing but its name is needed to clear it, and a sweep of a run leaves it alone: before its
    machine is defined, nothing else tells that its files are in use."""
    with rig.platform() as platform:
        target, rehearsal = platform.target(KEY), platform.rehearsal(KEY)
        model = prepared(rig, target, 3)
        before = rig.left(model.rule)
        intent = model.intent()
        child(rig, model, fault, do="test", number=2, name=f"hs-{model.rule}-trial")
        begun = rig.left(model.rule)
        target.sweep(model.ref, [])
        assert rig.left(model.rule) == begun
        assert target.pinned(model.ref) == (set() if fault == "rehearsal.after-volumes" else {1, 2})
        if fault.startswith("standby"):         # the same attempt goes on after a restart
            running = platform.standby(KEY).start(model.ref, 2, StartSpec(
                f"hs-{model.rule}-trial", {"": "user"}, "test", connect_network=False), intent)
            assert rehearsal.ended(running) == ""
        assert rehearsal.left(model.ref) == ([] if fault == "rehearsal.after-volumes" else [intent])
        rehearsal.clear(model.ref, intent)
        assert rig.left(model.rule) == before and rehearsal.left(model.ref) == []
        model.check(target, port=False)
        target.remove_replica(model.ref)


def test_a_tests_qemu_is_killed(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target, rehearsal = platform.target(KEY), platform.rehearsal(KEY)
        model = prepared(rig, target, 2)
        before = rig.left(model.rule)
        intent, name = model.intent(), f"hs-{model.rule}-trial"
        running = platform.standby(KEY).start(model.ref, 2, StartSpec(
            name, {"": "user"}, "test", connect_network=False), intent)
        pid = rig.host.qemu_pids()[name]
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid, 10)
        wait_for(lambda: rehearsal.ended(running) == "crashed", 10, "libvirt has noticed")
        assert rehearsal.screen(running) is None and rehearsal.heartbeat(running) in {None, False}
        rehearsal.clear(model.ref, intent)
        assert rig.left(model.rule) == before
        target.remove_replica(model.ref)


@pytest.mark.parametrize(("fault", "then"), [
    *((fault, "keep") for fault in KEEP), ("keep.after-begin", "discard"),
    ("keep.after-pivot", "discard"), ("keep.after-begin", "power loss"),
    ("keep.after-pivot", "power loss")])
def test_killed_while_a_failover_is_kept(rig: LibvirtTargetRig, fault: str, then: str) -> None:
    with rig.platform() as platform:
        target, standby = platform.target(KEY), platform.standby(KEY)
        model = prepared(rig, target, 2)
        name = f"{model.vm.name}-kept"
        before = rig.left(model.rule)
        running = standby.start(model.ref, 1, StartSpec(name), model.intent())
        child(rig, model, fault, do="keep")
        model.check(target, port=False)
        assert standby.find(model.ref) == running
        if then == "discard":
            standby.discard(running)
            assert rig.left(model.rule) == before and rig.disks_of(name) == {}
            target.remove_replica(model.ref)
            return
        if then == "power loss":
            pid = rig.host.qemu_pids()[name]
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid, 5)
            # until libvirt has noticed, a call says Retry, which the runner does
            wait_for(lambda: standby.power(running) == "off", 5, "libvirt knows that it is off")
        standby.keep(running, lambda done, total: None)
        assert standby.power(running) == "running"
        target.remove_replica(model.ref)
        standby.let_go(running)
        assert rig.left(model.rule) == set()
        model.compare(rig.disks_of(name), 1)
        rig.undefine(name)


def test_receiver_killed_in_the_middle(rig: LibvirtTargetRig) -> None:
    """QEMU dies in a session and in a merge: Reconnect, and the same call goes on."""
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = prepared(rig, target, 2)
        intent = model.intent()
        session = target.begin(model.ref, model.vm.disks, 2, intent)
        model.change(session)
        _kill(rig, model)
        with pytest.raises(HotspareError) as caught:
            session.publish(model.manifest(session, intent), model.digests, None)
        assert caught.value.action == "reconnect"
        session.close()
        session = target.begin(model.ref, model.vm.disks, 2, intent)
        assert session.resumed      # what was flushed is there: model.change flushes
        model.publish(session, intent)
        model.check(target, port=False)
        killed = []

        def progress(done: int, total: int) -> None:
            if not killed:
                killed.append(done)
                _kill(rig, model)

        with pytest.raises(HotspareError) as caught:
            target.retire(model.ref, 1, None, progress)
        assert caught.value.action == "reconnect"
        target.retire(model.ref, 1, None, lambda done, total: None)
        del model.points[1]
        target.sweep(model.ref, [])
        model.check(target, port=False)
        target.remove_replica(model.ref)


def _kill(rig: LibvirtTargetRig, model: Model) -> None:
    pid = rig.host.qemu_pids()[f"hs-rx-{model.rule}"]
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid, 5)


def test_every_fault_point_of_the_target_is_tested() -> None:
    package = Path(hotspare.__file__).parent / "platforms/libvirt"
    found = set()
    for name in ("session", "retire", "standby", "keep", "target", "rehearsal"):
        found |= set(re.findall(
            r'fault_point\("((?:begin|publish|retire|standby|discard|keep|sweep|rehearsal)\.[a-z-]+)"\)',
            (package / f"{name}.py").read_text("utf-8")))
    assert found == {*PUBLISH, *RETIRE, *STANDBY, *CLEAR, *KEEP, "sweep.after-delete"}


@needs_strace
def test_the_durable_order(rig: LibvirtTargetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """By system calls of the receiver: all data and blobs are on disk before the lineage is
    written, and the lineage is on disk before publish returns; a merged file is on disk before
    the lineage says so."""
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = prepared(rig, target, 2)
        intent = model.intent()
        session = target.begin(model.ref, model.vm.disks, 2, intent)
        with Trace(rig.host, f"hs-rx-{model.rule}", rig.tmp) as trace:
            model.change(session)
            done = model.publish(session, intent, b"nvram" * 1000)
        files = {d.file for d in done.disks} | {done.digests[0].name}
        assert done.firmware_state is not None
        files.add(done.firmware_state.name)
        lineage = f"hs-{model.rule}.lineage"
        events = trace.events()
        commit = next(i for i, (call, name) in enumerate(events)
                      if name == lineage and call == "write")
        for name in files:
            mine = [(i, call) for i, (call, found) in enumerate(events)
                    if found == name and i < commit]
            assert any(call == "write" for _, call in mine), (name, events)
            assert mine[-1][1] == "sync", (name, mine)
        assert ("sync", lineage) in events[commit:]
        # QEMU's tail: the seal
        assert {d.file for d in done.disks} <= {n for c, n in events[commit:] if c == "write"}

        into = {d.file for d in target.lineage(model.ref).points[0].disks}
        trace = Trace(rig.host, f"hs-rx-{model.rule}", rig.tmp)

        def attach(name: str) -> None:
            if name == "retire.after-mark":
                trace.__enter__()

        monkeypatch.setattr(retire, "fault_point", attach)
        target.retire(model.ref, 1, None, lambda done, total: None)
        trace.__exit__()
        events = trace.events()
        last = max(i for i, (call, name) in enumerate(events)
                   if name == lineage and call == "write")
        for name in into:
            mine = [call for call, found in events[:last] if found == name]
            assert "write" in mine and mine[-1] == "sync", (name, mine)
        target.remove_replica(model.ref)
