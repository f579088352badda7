"""The test bed's own tests: if these fail, other tests say little about the product."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest

from testbeds.kvm import Guest, Lab, SessionHost, procs
from testbeds.kvm.__main__ import main

GuestFactory = Callable[..., Guest]
TESTS = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_boots_from_its_disk(guest_factory: GuestFactory, firmware: str) -> None:
    guest = guest_factory(firmware=firmware).start()
    verified = guest.wait_ready()
    assert (verified.records, verified.bad, verified.disks) == (0, False, 1)
    guest.wait_agent()
    assert guest.exec("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")


@pytest.mark.soak
def test_journal_of_three_disks_survives_a_hard_kill(guest_factory: GuestFactory) -> None:
    guest = guest_factory(disks=3, boot="kernel", rate=20).start()
    guest.wait_ready()
    guest.wait_agent()
    assert guest.domain().fsFreeze() == 3
    assert guest.domain().fsThaw() == 3
    written = guest.wait_records(30)
    guest.kill9()
    assert not guest.running
    verified = guest.start().wait_ready()
    assert not verified.bad
    assert verified.records >= written - 1, "the last one counted may be on the first disk only"
    assert len(verified.counts) == 3
    assert max(verified.counts) - min(verified.counts) <= 1


def test_damage_is_found(guest_factory: GuestFactory) -> None:
    """Each kind of bad copy that the journal is for has to be seen."""
    guest = guest_factory(disks=2, boot="kernel", rate=20).start()
    guest.wait_ready()
    guest.wait_agent()
    guest.wait_records(20)
    guest.set_rate(0)
    time.sleep(0.5)
    damages = {
        "lost record": "sed -i 7d /data/journal",
        "changed record": "sed -i '7s/ / 1/' /data/journal",
        "disks of different moments": "sed -i '10,$d' /data1/journal",
        "lost tail": 'n=$(wc -l </data/journal); sed -i "$((n-1)),\\$d" /data/journal',
    }
    guest.exec("cp /data/journal /data/good; cp /data1/journal /data1/good; sync")
    for name, damage in damages.items():
        assert guest.exec(f"{damage}; sync").rc == 0
        guest.destroy()
        assert guest.start().wait_ready().bad, name
        guest.wait_agent()
        guest.exec("cp /data/good /data/journal; cp /data1/good /data1/journal; sync")
    guest.destroy()
    assert not guest.start().wait_ready().bad


@pytest.mark.soak
def test_torn_last_record_is_no_error(guest_factory: GuestFactory) -> None:
    guest = guest_factory(boot="kernel", rate=0).start()
    guest.wait_ready()
    guest.wait_agent()
    guest.set_rate(50)
    guest.wait_records(5)
    guest.set_rate(0)
    time.sleep(0.5)
    count = guest.journal_count()
    guest.exec("printf '%s 123' $(( $(wc -l < /data/journal) + 1 )) >> /data/journal; sync")
    guest.destroy()
    verified = guest.start().wait_ready()
    assert (verified.records, verified.bad, verified.torn) == (count, False, True)


@pytest.mark.soak
def test_missing_disk_is_found(guest_factory: GuestFactory) -> None:
    guest = guest_factory(disks=2, boot="kernel")
    guest.domain().detachDeviceFlags(
        f"<disk type='file' device='disk'><source file='{guest.disk_paths[1]}'/>"
        "<target dev='vdb' bus='virtio'/></disk>",
        libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    )
    assert guest.start().wait_ready().bad


@pytest.mark.soak
@pytest.mark.parametrize("agent", [True, False])
def test_shuts_down(guest_factory: GuestFactory, agent: bool) -> None:
    guest = guest_factory(agent=agent, boot="kernel", fmt="raw", bus="scsi").start()
    guest.wait_ready()
    if agent:
        guest.wait_agent()
    guest.shutdown()
    assert not guest.running
    assert not guest.start().wait_ready().torn


@pytest.mark.soak
def test_guest_survives_its_daemon(host_a: SessionHost, guest_factory: GuestFactory) -> None:
    guest = guest_factory(boot="kernel").start()
    guest.wait_ready()
    pid = guest.qemu_pid()
    host_a.kill(signal.SIGKILL)
    assert not host_a.running
    with pytest.raises(libvirt.libvirtError):
        host_a.connect()
    assert procs.alive(pid)
    host_a.start()
    assert guest.running
    assert guest.qemu_pid() == pid
    host_a.restart()
    assert guest.running
    assert procs.alive(pid)
    guest.domain().destroy()  # fails while the daemon is still taking the guest over


def test_hosts_are_separate_and_have_pools(
    lab: Lab, host_a: SessionHost, host_b: SessionHost, guest_factory: GuestFactory
) -> None:
    guest = guest_factory(host_b)
    assert guest.name not in [domain.name() for domain in host_a.conn.listAllDomains()]
    pool = host_b.conn.storagePoolLookupByName("hotspare")
    pool.refresh()
    assert guest.disk_paths[0].name in [volume.name() for volume in pool.listAllVolumes()]
    assert host_a.conn.storagePoolLookupByName("images").isActive()
    assert len(str(lab.dir)) <= 24


@pytest.mark.parametrize("kind", ["socket", "own server", "libssh"])
def test_libvirt_over_ssh(lab: Lab, host_a: SessionHost, kind: str) -> None:
    uri = {
        "socket": lambda: lab.ssh.uri(host_a),
        "own server": lambda: lab.ssh_for(host_a).uri(host_a),
        "libssh": lambda: lab.ssh.libssh_uri(host_a),
    }[kind]()
    assert ("socket=" in uri) == (kind != "own server")
    connection = libvirt.open(uri)
    try:
        assert [pool.name() for pool in connection.listAllStoragePools()] == ["images"]
    finally:
        connection.close()


def test_unix_socket_through_ssh(lab: Lab, host_b: SessionHost) -> None:
    forwarded = lab.dir / "forwarded.sock"
    client = subprocess.Popen(lab.ssh.client("-N", "-L", f"{forwarded}:{host_b.socket}"))
    try:
        end = time.monotonic() + 20
        while not forwarded.exists() and time.monotonic() < end:
            time.sleep(0.05)
        connection = libvirt.open(f"qemu+unix:///session?socket={forwarded}")
        assert [pool.name() for pool in connection.listAllStoragePools()] == ["hotspare"]
        connection.close()
        assert lab.ssh.session_pids()
    finally:
        client.terminate()
        client.wait(10)
        forwarded.unlink(missing_ok=True)


def _leftovers(directory: Path) -> list[list[str]]:
    mark = f"{directory}/"
    commands = (procs.command(int(e.name)) for e in Path("/proc").iterdir() if e.name.isdigit())
    return [words for words in commands if any(mark in word for word in words)]


def test_stopping_leaves_nothing() -> None:
    with Lab() as lab:
        guest = lab.define_guest(lab.a, "left", boot="kernel").start()
        connection = libvirt.open(lab.ssh.uri(lab.b))
        pids = [guest.qemu_pid(), lab.a.pid, lab.b.pid, lab.ssh.pid]
        assert all(pid and procs.alive(pid) for pid in pids)
    del connection
    assert not any(pid and procs.alive(pid) for pid in pids)
    assert not lab.dir.exists()
    assert _leftovers(lab.dir) == []
    lab.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ended_owner_leaves_nothing(number: signal.Signals) -> None:
    """SIGTERM and SIGINT clean up at once; after SIGKILL `down` does."""
    script = (
        # a shell starts its background jobs with SIGINT ignored, and children inherit that
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from testbeds.kvm import Lab\nlab = Lab().start()\n"
        "print(lab.dir, flush=True)\ntime.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert owner.stdout is not None
    directory = Path(owner.stdout.readline().strip())
    assert (directory / "lab.json").exists()
    owner.send_signal(number)
    owner.wait(60)
    owner.stdout.close()
    if number == signal.SIGKILL:
        assert _leftovers(directory) != []
        assert main(["down", "--stale"]) == 0
    assert not directory.exists()
    assert _leftovers(directory) == []


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    # pytest's own temporary directories have paths too long for sockets
    parent = Path(tempfile.mkdtemp(prefix="hsx", dir="/tmp"))
    parent.chmod(0o755)
    try:
        command = [sys.executable, "-m", "testbeds.kvm"]
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        subprocess.run([*command, "up", "--ssh", "--dir", str(parent)], check=True, env=environment)
        assert main(["up", "--dir", str(parent)]) == 0  # a second up shows the first one's
        shown = capsys.readouterr().out
        assert "is up already" in shown
        uri = next(line.split()[-1] for line in shown.splitlines() if "libvirt URI" in line)
        connection = libvirt.open(uri)
        assert connection.lookupByName("demo").isActive()
        connection.close()
        assert main(["down", "--dir", str(parent)]) == 0
        assert list(parent.iterdir()) == []
        assert _leftovers(parent) == []
    finally:
        main(["down", "--dir", str(parent)])
        shutil.rmtree(parent)
