"""Whether KVM can be trusted on this machine."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal, cast

from . import image
from .tools import need

Accel = Literal["kvm", "tcg"]

PROBE_SECONDS = 4.0
OVERRIDE = "HOTSPARE_TESTBED_ACCEL"


@functools.cache
def detect_accel() -> Accel:
    """Return "kvm" if a guest really booted under KVM in a short time, else "tcg".

    That /dev/kvm exists proves nothing: in some nested clouds it opens and then hangs. The answer
    is kept on disk until the next boot of the machine.
    """
    forced = os.environ.get(OVERRIDE)
    if forced in ("kvm", "tcg"):
        return cast(Accel, forced)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    memory = image.cache_dir() / f"accel-{os.geteuid()}"
    try:
        known_boot, known = memory.read_text("ascii").split()
    except (OSError, ValueError):
        known_boot = known = ""
    if known_boot == boot and known in ("kvm", "tcg"):
        return cast(Accel, known)
    accel: Accel = "kvm" if _boots_under_kvm() else "tcg"
    memory.write_text(f"{boot} {accel}\n", "ascii")
    return accel


def _boots_under_kvm() -> bool:
    guest = image.build()
    log = tempfile.NamedTemporaryFile(prefix="hs-kvm-probe-")  # noqa: SIM115 - closed below
    process = subprocess.Popen(
        [need("qemu-system-x86_64"), "-accel", "kvm", "-m", "96", "-display", "none", "-nodefaults",
         "-no-reboot", "-serial", f"file:{log.name}", "-kernel", guest.kernel, "-initrd",
         guest.initrd, "-append", "console=ttyS0 panic=-1 quiet hs.disks=0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < end and process.poll() is None:
            if b"GUEST READY" in Path(log.name).read_bytes():
                return True
            time.sleep(0.05)
        return False
    finally:
        process.send_signal(signal.SIGKILL)
        try:  # one stuck in the kernel cannot be ended: leave it rather than hang with it
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.returncode = -signal.SIGKILL
        log.close()
