"""Finding and running the programs that the test bed needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import MissingPrerequisite, TestbedError

# Where Debian, Ubuntu and Fedora keep system programs: an ordinary user's PATH lacks the sbin ones.
_EXTRA_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec")

# What daemons of another account get: the caller's PATH may name directories that it cannot read.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec"

# program -> Debian package, for a remedy that can be pasted
PACKAGES: Mapping[str, str] = {
    "libvirtd": "libvirt-daemon",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "qemu-ga": "qemu-guest-agent",
    "busybox": "busybox-static",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "grub-mkimage": "grub-common",
    "cpio": "cpio",
    "ldd": "libc-bin",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "useradd": "passwd",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
}


def search_path() -> str:
    """Return PATH extended by the system directories."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_EXTRA_PATH])


def which(program: str) -> str | None:
    """Return the full path of a program, or None."""
    return shutil.which(program, path=search_path())


def need(program: str) -> str:
    """Return the full path of a program; raise MissingPrerequisite with the package to install."""
    found = which(program)
    if found is None:
        package = PACKAGES.get(program, program)
        raise MissingPrerequisite(
            f"The program {program} is not installed.",
            f"Install the package {package} (Debian: apt install {package}).",
        )
    return found


def run(args: Sequence[str | Path], *, stdin: bytes | None = None, timeout: float = 120) -> bytes:
    """Run a program to its end; return its output, or raise with its message if it failed."""
    argv = [str(arg) for arg in args]
    argv[0] = need(argv[0])
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"},
    )
    if done.returncode:
        raise TestbedError(
            f"{' '.join(argv)} ended with status {done.returncode}: "
            f"{done.stderr.decode(errors='replace').strip() or 'no message'}.",
            "Run that command by hand to see more; check free space in the cache directory.",
        )
    return done.stdout
