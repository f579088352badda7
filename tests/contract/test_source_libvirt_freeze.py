"""A guest never stays frozen, whoever dies or hangs between freeze and thaw."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hotspare.domain.errors import HotspareError, Refused
from hotspare.platforms.libvirt.source import LibvirtSource
from testbeds.kvm import Guest, Lab

from . import source_process
from .source_libvirt_rig import LibvirtRig
from .source_reader import Replica
from .source_rig import Numbers


@pytest.fixture
def rig(libvirt_rig: LibvirtRig) -> LibvirtRig:
    return libvirt_rig


@pytest.fixture
def numbers(rig: LibvirtRig) -> Iterator[Numbers]:
    numbers = Numbers()
    yield numbers
    with rig.source() as source:
        source.sweep(rig.vm, numbers.rule, ())
    assert list(rig.left(numbers.rule)) == []
    assert rig.running()


@pytest.fixture
def source(rig: LibvirtRig) -> Iterator[LibvirtSource]:
    with rig.source() as source:
        yield source


@pytest.fixture
def replica(tmp_path: Path, rig: LibvirtRig, numbers: Numbers) -> Replica:
    return Replica(tmp_path, rig.vm, numbers)


def frozen(rig: LibvirtRig) -> bool:
    return bool(rig.guest.agent_command("guest-fsfreeze-status") == "frozen")


def wait_frozen(rig: LibvirtRig, state: bool, timeout: float) -> float:
    """Seconds until the guest is frozen, or thawed."""
    begun = time.monotonic()
    while frozen(rig) != state:
        assert time.monotonic() - begun < timeout, f"frozen is {not state} for {timeout} s"
        time.sleep(0.02)
    return time.monotonic() - begun


@pytest.mark.parametrize("where", ["source.frozen", "source.before-thaw"])
def test_parent_killed(rig: LibvirtRig, source: LibvirtSource, replica: Replica,
                       where: str) -> None:
    replica.sync(source)
    intent = replica.numbers.next()
    process = source_process.start(rig, replica.token, "try", intent, f"{where}:sleep=30")
    wait_frozen(rig, True, 20)
    process.kill()
    assert wait_frozen(rig, False, 10) < 5
    process.wait()
    rig.write(0)
    with rig.source() as other:
        other.sweep(rig.vm, replica.numbers.rule, (other.token_name(replica.token or {}),))
    replica.sync(source, "require")


def test_begin_hangs(rig: LibvirtRig, source: LibvirtSource, replica: Replica,
                     monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper thaws by itself, and the instant is no longer called quiesced."""
    replica.sync(source)
    monkeypatch.setenv("HOTSPARE_FAULT", "source.frozen:sleep=8")   # in the helper only
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(replica.sync(source, "try")[0]))
    thread.start()
    wait_frozen(rig, True, 20)
    assert wait_frozen(rig, False, 10) < 5
    assert thread.is_alive()
    thread.join()
    assert (results[0].consistency, results[0].note) == ("crash", "quiesce.cut-short")
    assert 3000 < results[0].stall_ms < 5000
    monkeypatch.delenv("HOTSPARE_FAULT")


def test_helper_killed(rig: LibvirtRig, source: LibvirtSource, replica: Replica,
                       monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent thaws when its helper dies."""
    replica.sync(source)
    monkeypatch.setenv("HOTSPARE_FAULT", "source.frozen:kill")
    with pytest.raises(HotspareError) as caught:
        source.open_point(rig.vm, replica.token, "try", replica.numbers.next())
    assert caught.value.code == "source.helper-died" and caught.value.action == "retry"
    assert not frozen(rig)


def test_leftover_freeze_is_found(rig: LibvirtRig, source: LibvirtSource,
                                  replica: Replica) -> None:
    rig.domain().fsFreeze()
    found = source.sweep(rig.vm, replica.numbers.rule, ())
    assert [x.kind for x in found] == ["freeze"] and not frozen(rig)
    rig.domain().fsFreeze()
    point, _ = replica.sync(source, "require")
    assert point.consistency == "quiesced" and not frozen(rig)


def test_agent_hangs(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    replica.sync(source)
    assert rig.guest.exec("(sleep 0.5; kill -STOP $(pidof qemu-ga); sleep 25; "
                          "kill -CONT $(pidof qemu-ga)) >/dev/null 2>&1 </dev/null &").rc == 0
    time.sleep(1)
    begun = time.monotonic()
    point, _ = replica.sync(source, "try")
    assert (point.consistency, point.note) == ("crash", "quiesce.agent-hung")
    with pytest.raises(Refused) as refused:
        source.open_point(rig.vm, replica.token, "require", replica.numbers.next())
    assert refused.value.code == "quiesce.failed"
    assert time.monotonic() - begun < 20
    rig.guest.wait_agent()
    rig.write(0)


def test_paused_machine(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    rig.domain().suspend()
    try:
        point, _ = replica.sync(source, "try")
        assert (point.consistency, point.note) == ("crash", "quiesce.paused")
        assert rig.domain().state()[0] == libvirt.VIR_DOMAIN_PAUSED
    finally:
        rig.domain().resume()


def test_agent_timeout_is_put_back(rig: LibvirtRig, source: LibvirtSource,
                                   replica: Replica) -> None:
    """A long agent command of somebody else does not fall under our time-out."""
    replica.sync(source, "require")
    rig.guest.exec("(sleep 0.3; kill -STOP $(pidof qemu-ga); sleep 7; "
                   "kill -CONT $(pidof qemu-ga)) >/dev/null 2>&1 </dev/null &")
    time.sleep(0.6)
    assert rig.domain().guestInfo(libvirt.VIR_DOMAIN_GUEST_INFO_OS, 0) is not None


def test_stall(rig: LibvirtRig, source: LibvirtSource, replica: Replica,
               record_property: Callable[[str, object], None]) -> None:
    """How long the guest stands still. The bound is loose, for machines that are busy: it guards
    against a new dependence on the size of disks or on the length of a start-up."""
    stalls = []
    for _ in range(8):
        point = source.open_point(rig.vm, None, "require", replica.numbers.next())
        stalls.append(point.stall_ms)
        point.commit()
    record_property("stall_ms", stalls)
    assert statistics.median(stalls) < 2000


def test_without_agent(lab: Lab, guest_factory: Callable[..., Guest]) -> None:
    guest = guest_factory(name="mute", boot="kernel", agent=False)
    guest.start()
    rig, numbers = LibvirtRig(lab, guest), Numbers()
    with rig.source() as source:
        point = source.open_point(guest.name, None, "try", numbers.next())
        assert (point.consistency, point.note) == ("crash", "quiesce.no-agent")
        point.commit()
        with pytest.raises(Refused):
            source.open_point(guest.name, None, "require", numbers.next())
        source.sweep(guest.name, numbers.rule, ())
