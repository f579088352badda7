"""A process of its own for crash tests: ``python -m contract.writeback_child JSON``.

It fails a machine back and is killed on its way by HOTSPARE_FAULT.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from hotspare.domain.codec import decode
from hotspare.domain.machine import VmDescription
from hotspare.faultpoints import fault_point
from hotspare.platforms.libvirt.platform import LibvirtPlatform
from hotspare.platforms.port import Intent, PlatformAccess

from .writeback_rig import SOME, overwrite


def main(order: dict[str, Any]) -> None:
    platform = LibvirtPlatform(PlatformAccess("child", "libvirt", order["uri"], order["options"]))
    writer, vm = platform.write_back, order["vm"]
    origin = Intent(order["rule"], 1, order["origin"])
    if order["do"] == "write":
        session = writer.open(vm, order["base"], origin, 1)
        for disk in session.disks:
            overwrite(session, disk, SOME, 0xAA)
            fault_point("child.after-write")
        session.close(sealed=True)
    elif order["do"] == "firmware":
        session = writer.open(vm, None, origin, 1)
        session.write_firmware_state(bytes([0xAA]) * order["size"])
        session.close(sealed=False)
    elif order["do"] == "power-on":
        writer.power_on(vm, Intent(order["rule"], 1, order["task"]))
    elif order["do"] == "build":
        writer.build(decode(VmDescription, order["model"]), vm, order["storage"], {}, origin)
        writer.demolish(vm, origin)
    elif order["do"] == "clear":
        writer.clear(vm, origin)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
