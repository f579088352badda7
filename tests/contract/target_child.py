"""A process of its own for crash tests: ``python -m contract.target_child JSON``.

It does one thing with a target and is killed on its way there by HOTSPARE_FAULT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbd

from hotspare.domain.codec import decode
from hotspare.domain.lineage import Manifest
from hotspare.platforms.libvirt import platform as libvirt
from hotspare.platforms.port import Intent, PlatformAccess, ReplicaRef, StartSpec
from hotspare.platforms.vsphere import platform as vsphere

from .target_rig import KEY


def main(order: dict[str, Any]) -> None:
    kind, uri, options, secret = order["access"]
    connect = vsphere.connect if kind == "vsphere" else libvirt.connect
    platform = connect(PlatformAccess("child", kind, uri, options, secret))
    target = platform.target(KEY)
    ref = ReplicaRef(order["rule"], order["storage"])
    intent = Intent(order["rule"], order["epoch"], order["task"])
    if order["do"] == "retire":
        folded = Path(order["folded"]) if order.get("folded") else None
        target.retire(ref, order["number"], folded, lambda done, total: None)
    elif order["do"] == "start":
        platform.standby(KEY).start(ref, order["number"], StartSpec(order["name"]), intent)
    elif order["do"] == "test":
        isolation = platform.rehearsal(KEY).isolate(ref, order["number"], None, intent)
        platform.standby(KEY).start(ref, order["number"], StartSpec(
            order["name"], isolation.networks, "test", isolation.connected), intent)
        platform.rehearsal(KEY).clear(ref, intent)
    elif order["do"] == "discard":
        standby = platform.standby(KEY)
        running = standby.start(ref, order["number"], StartSpec(order["name"]), intent)
        standby.discard(running)
    elif order["do"] == "keep":
        standby = platform.standby(KEY)
        running = standby.find(ref)
        assert running is not None
        standby.keep(running, lambda done, total: None)
    elif order["do"] == "publish":
        manifest = decode(Manifest, order["manifest"])
        session = target.begin(ref, manifest.vm.disks, order["base"], intent)
        for disk_id, writes in order["writes"].items():
            with session.disks[disk_id].open() as endpoint:
                handle = nbd.NBD()
                handle.connect_uri(endpoint.uri)
                for at, byte, length in writes:
                    handle.pwrite(bytes([byte]) * length, at)
                handle.flush()
                handle.shutdown()
        session.publish(manifest, Path(order["digests"]), b"firmware" * 512)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
