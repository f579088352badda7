"""A privileged libvirtd, as on a real host: its QEMUs run as a user of their own, and disks, points
and sockets have to change hands. It runs in name spaces of its own, so that nothing of this machine
is changed, and ends with them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from testbeds.kvm import procs, reaper
from testbeds.kvm.errors import MissingPrerequisite
from testbeds.kvm.tools import need
from testbeds.pytest_plugin import missing

from .rig import wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Guest


_USER, _ID = "libvirt-qemu", 64055      # the ones of Debian's package
_PRIVATE = {"run": "/run/libvirt", "lib": "/var/lib/libvirt", "etc": "/etc/libvirt",
            "cache": "/var/cache/libvirt"}
_START = """
set -e
{ip} link set lo up         # QEMU's VNC listens there
for pair in {pairs}; do mkdir -p ${{pair#*:}}; mount --bind ${{pair%%:*}} ${{pair#*:}}; done
mount --bind {base}/passwd /etc/passwd
mount --bind {base}/group /etc/group
# libvirt probes QEMU anew for each machine while there is a /dev/kvm that QEMU cannot use
install -m 0600 /dev/null {base}/no-kvm
test ! -e /dev/kvm || mount --bind {base}/no-kvm /dev/kvm
exec {python} {reaper} {libvirtd}
"""


class SystemHost:
    def __init__(self, base: Path) -> None:
        self.base, self.images, self.sockets = base, base / "images", base / "s"
        self.uri = f"qemu+unix:///system?socket={base}/run/libvirt-sock"
        base.chmod(0o755)
        for name in (*_PRIVATE, "images", "s"):
            (base / name).mkdir()
        shutil.chown(self.sockets, _ID, _ID)
        for name, line in (("passwd", f"{_USER}:x:{_ID}:{_ID}::/:/usr/sbin/nologin\n"),
                           ("group", f"{_USER}:x:{_ID}:\n")):
            (base / name).write_text(Path("/etc", name).read_text() + line)
        (base / "etc/qemu.conf").write_text(
            f'user = "{_USER}"\ngroup = "{_USER}"\nstdio_handler = "file"\nnamespaces = []\n')
        (base / "etc/libvirtd.conf").write_text('auth_unix_rw = "none"\n')
        script = _START.format(
            base=base, pairs=" ".join(f"{base}/{a}:{b}" for a, b in _PRIVATE.items()),
            ip=need("ip"), python=sys.executable, reaper=reaper.__file__, libvirtd=need("libvirtd"))
        with (base / "log").open("wb") as log:
            # The kernel ends all that is in the name space of processes together with its first,
            # and that one with us, whatever ends us.
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",
                 "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "--propagation", "private", "bash", "-c", script],
                stdout=log, stderr=log, start_new_session=True)
        self.conn = wait_for(self._opened, 60, f"libvirtd answers, see {base}/log")
        pool = self.conn.storagePoolDefineXML(
            "<pool type='dir'><name>images</name>"
            f"<target><path>{self.images}</path></target></pool>")
        pool.create()

    def _opened(self) -> Any:
        assert self.process.poll() is None, (self.base / "log").read_text()[-2000:]
        try:
            return libvirt.open(self.uri)
        except libvirt.libvirtError:
            return None

    def network(self, name: str) -> None:
        """Make a network that machines can meet on."""
        try:
            for program in ("iptables", "dnsmasq"):     # libvirt runs them
                need(program)
        except MissingPrerequisite as error:
            missing(error)
        self.conn.networkCreateXML(
            f"<network><name>{name}</name><bridge stp='off' delay='0'/></network>")

    def inside(self) -> list[str]:
        """What makes a command run in the host's network."""
        [first] = procs.children(self.process.pid)
        return ["nsenter", f"--net=/proc/{first}/ns/net"]

    def adopt(self, guest: Guest, network: str = "") -> Any:
        """Define a guest of the lab here, with copies of its disks, and start it."""
        xml = guest.domain().XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        if network:
            xml = xml.replace("<interface type='user'>",
                              f"<interface type='network'><source network='{network}'/>")
        for path in guest.disk_paths:
            shutil.copyfile(path, self.images / path.name)
            xml = xml.replace(str(path), str(self.images / path.name))
        domain = self.conn.defineXML(xml.replace(str(guest.serial_log),
                                                 str(self.base / "serial.log")))
        domain.create()
        return domain

    def stop(self) -> None:
        self.conn.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def system() -> Iterator[SystemHost]:
    directory = Path(tempfile.mkdtemp(prefix="hs-sys-", dir="/tmp"))
    try:
        if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"],
                          check=False, capture_output=True).returncode != 0:
            missing(MissingPrerequisite("Name spaces cannot be made here.", "Run as root."))
        host = SystemHost(directory)
        try:
            yield host
        finally:
            host.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
