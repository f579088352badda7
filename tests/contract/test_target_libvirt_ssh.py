"""A target over a real sshd."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

import pytest

from hotspare.platforms.port import PlatformAccess, StartSpec
from testbeds.kvm import Lab, SessionHost

from .target_libvirt_rig import LibvirtTargetRig
from .target_rig import KEY, Model
from .target_suite import ignore


class SshTargetRig(LibvirtTargetRig):
    @property
    def access(self) -> PlatformAccess:
        server = self.lab.ssh
        uri = (f"qemu+ssh://{server.user}@127.0.0.1:{server.port}/session?"
               f"socket={quote(str(self.host.socket), safe='/')}&proxy=netcat")
        return PlatformAccess("ssh", "libvirt", uri,
                              {"socket_dir": str(self.host.socket_dir),
                               "known_hosts": str(server.known_hosts),
                               "keyfile": str(server.keyfile)})


@pytest.fixture
def rig(lab: Lab, host_b: SessionHost, tmp_path: Path) -> SshTargetRig:
    return SshTargetRig(lab, host_b, tmp_path)


def test_points_over_ssh(rig: SshTargetRig) -> None:
    model = Model(rig, rig.vm("ssh", 2))
    with rig.platform() as platform:
        target, standby = platform.target(KEY), platform.standby(KEY)
        model.ensure(target)
        times = []
        for _ in range(3):
            start = time.monotonic()
            model.cycle(target, b"nvram" * 100)
            times.append(round(time.monotonic() - start, 2))
        print("cycles over ssh, s:", times)
        target.fence(model.ref, 1)
        running = standby.start(model.ref, 2, StartSpec("over-ssh"), model.intent())
        assert target.pinned(model.ref) == {1, 2}
        standby.discard(running)
        target.retire(model.ref, 1, None, ignore)
        del model.points[1]
        model.check(target)
        target.remove_replica(model.ref)
        # sockets on another host cannot be removed, and are, by QEMU, when it ends in peace
        assert rig.left(model.rule) == set()
