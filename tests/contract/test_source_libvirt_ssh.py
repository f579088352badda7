"""A host over a real sshd: connection, exports, and processes that end with us."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from hotspare.domain.errors import GiveUp, HotspareError, Reconnect, Refused
from hotspare.platforms.libvirt.connection import Connection
from hotspare.platforms.port import PlatformAccess
from testbeds.kvm import SshServer

from .source_libvirt_rig import LibvirtRig
from .source_reader import Replica
from .source_rig import Numbers


class SshRig(LibvirtRig):
    """The same guest by ssh, with the key as a file or as a secret."""

    as_secret = False

    @property
    def server(self) -> SshServer:
        server: SshServer = self.lab.ssh
        return server

    def access(self, **options: str) -> PlatformAccess:
        server = self.server
        uri = (f"qemu+ssh://{server.user}@127.0.0.1:{server.port}/session?"
               f"socket={quote(str(self.host.socket), safe='/')}&proxy=netcat")
        options = {"socket_dir": str(self.host.socket_dir),
                   "known_hosts": str(server.known_hosts), **options}
        if self.as_secret:
            return PlatformAccess("ssh", "libvirt", uri, options, server.keyfile.read_text())
        return PlatformAccess("ssh", "libvirt", uri,
                              {"keyfile": str(server.keyfile), **options})


@pytest.fixture
def rig(libvirt_rig: LibvirtRig) -> SshRig:
    return SshRig(libvirt_rig.lab, libvirt_rig.guest)


def ssh_processes() -> list[str]:
    """Command lines of ssh and ssh-agent processes with a private directory of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"hs-link-" in words and words.split(b"\0")[0].split(b"/")[-1] in (b"ssh",
                                                                              b"ssh-agent"):
            found.append(words.replace(b"\0", b" ").decode())
    return found


def wait_none(what: str) -> None:
    end = time.monotonic() + 5
    while any(what in line for line in ssh_processes()):
        assert time.monotonic() < end, ssh_processes()
        time.sleep(0.05)


@pytest.mark.parametrize("as_secret", [False, True], ids=["keyfile", "secret"])
def test_runs_over_ssh(rig: SshRig, tmp_path: Path, as_secret: bool) -> None:
    rig.as_secret = as_secret
    numbers = Numbers()
    replica = Replica(tmp_path, rig.vm, numbers)
    with rig.source() as source:
        replica.sync(source, "require")
        rig.write(0)
        point, moved = replica.sync(source, "require")
        assert point.consistency == "quiesced" and sum(moved.values()) > 0
        source.sweep(rig.vm, numbers.rule, ())
        secret = rig.access().secret
        if secret:
            line = secret.strip().splitlines()[2]
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    except OSError:
                        continue
                    assert line.encode() not in seen
            for place in Path("/tmp").glob(f"hs-link-{os.getpid()}-*/*"):
                assert not place.is_file() or line not in place.read_text(errors="replace")
    assert list(rig.left(numbers.rule)) == []
    wait_none(f"hs-link-{os.getpid()}-")
    assert list(Path("/tmp").glob(f"hs-link-{os.getpid()}-*")) == []


def test_killed_process_leaves_no_ssh(rig: SshRig) -> None:
    rig.as_secret = True
    access = rig.access()
    script = (
        "import sys, json, time\n"
        "from hotspare.platforms.port import PlatformAccess\n"
        "from hotspare.platforms.libvirt.connection import Connection\n"
        "c = Connection(PlatformAccess(**json.loads(sys.stdin.readline())))\n"
        "c.conn.getHostname()\n"
        f"with c.forward({str(rig.host.socket)!r}) as local:\n"
        "    print(c.ssh._dir, flush=True)\n"
        "    time.sleep(600)\n")
    import json

    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps({
        "id": "x", "kind": "libvirt", "uri": access.uri, "options": dict(access.options),
        "secret": access.secret}) + "\n")
    process.stdin.flush()
    place = process.stdout.readline().strip()
    assert place and any(place in line for line in ssh_processes())
    process.kill()
    process.wait()
    wait_none(place)
    with connected(rig.access()) as connection:     # clears up after the dead
        connection.conn.getHostname()
    assert not Path(place).exists()


@contextmanager
def connected(access: PlatformAccess) -> Iterator[Connection]:
    connection = Connection(access)
    try:
        yield connection
    finally:
        connection.close()


def code_of(access: PlatformAccess) -> str:
    with connected(access) as connection, pytest.raises(HotspareError) as caught:
        connection.conn.getHostname()
    return caught.value.code


def test_causes_are_told_apart(rig: SshRig, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    other.write_text("")
    assert code_of(rig.access(known_hosts=str(other))) == "ssh.host-key"
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    assert code_of(rig.access(keyfile=str(key))) == "platform.auth"
    bad = PlatformAccess("x", "libvirt", rig.access().uri, rig.access().options, "no key at all")
    assert code_of(bad) == "ssh.key"
    access = rig.access()
    away = access.uri.replace(f":{rig.server.port}/", ":1/")
    assert code_of(PlatformAccess("x", "libvirt", away, access.options)) == "platform.unreachable"


def test_forward_errors(rig: SshRig, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    other.write_text("")
    with (connected(rig.access(known_hosts=str(other))) as connection,
          pytest.raises(GiveUp), connection.forward("/nowhere")):
        pass
    access = rig.access()
    away = access.uri.replace(f":{rig.server.port}/", ":1/")
    with (connected(PlatformAccess("x", "libvirt", away, access.options)) as connection,
          pytest.raises(Reconnect), connection.forward("/nowhere")):
        pass


@pytest.mark.parametrize(("uri", "code"), [
    ("qemu+tcp://host/system", "platform.scheme"),
    ("qemu+tls://host/system", "platform.scheme"),
    ("qemu://host/system", "platform.scheme"),
    ("xen:///system", "platform.scheme"),
    ("qemu+ssh://host/system?command=/bin/evil", "platform.uri"),
    ("qemu+ssh://host/system?netcat=/bin/evil", "platform.uri"),
    ("qemu+ssh://host/system?no_verify=1", "platform.uri"),
    ("qemu+ssh://-oProxyCommand=evil/system", "platform.uri"),
    ("qemu+ssh://-evil@host/system", "platform.uri"),
    ("qemu:///embed", "platform.uri"),
])
def test_uris_that_are_refused(uri: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        Connection(PlatformAccess("x", "libvirt", uri))
    assert refused.value.code == code
