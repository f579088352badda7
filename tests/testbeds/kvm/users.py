"""Who the hosts' daemons run as."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from .tools import need, run, which

LAB_USER = "hotspare-lab"


@dataclass(frozen=True)
class Identity:
    """The account of a lab's daemons and of their QEMU processes.

    A libvirtd started by root is privileged and ignores the XDG directories that keep two hosts
    apart. From a root shell the lab therefore runs as a system user of its own.
    """

    name: str
    uid: int
    gid: int

    @property
    def foreign(self) -> bool:
        """Whether this is another account than the one we run as."""
        return os.geteuid() != self.uid

    def prefix(self, *, kvm: bool) -> list[str]:
        """Return the command words that start a program as this account.

        Without `kvm` the supplementary groups are dropped, and with them /dev/kvm: on a machine
        whose KVM hangs, libvirt's probing of QEMU must not open it.
        """
        if not self.foreign:
            return []
        groups = "--init-groups" if kvm else "--clear-groups"
        return [need("setpriv"), f"--reuid={self.uid}", f"--regid={self.gid}", groups, "--"]

    def own(self, *paths: Path) -> None:
        """Hand files or directories (not their contents) to this account."""
        if self.foreign:
            for path in paths:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def current() -> Identity:
    """Return ourselves, or the lab's system user (made when missing) when we are root."""
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
    else:
        try:
            entry = pwd.getpwnam(LAB_USER)
        except KeyError:
            _create_user()
            entry = pwd.getpwnam(LAB_USER)
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_user() -> None:
    groups = ["--groups", "kvm"] if "kvm:" in Path("/etc/group").read_text("utf-8") else []
    # a real shell, as the test sshd lets this account log in and run libvirt's helper
    shell = which("sh") or "/bin/sh"
    run(["useradd", "--system", "--user-group", *groups, "--no-create-home", "--home-dir",
         "/", "--shell", shell, "--comment", "Hotspare test bed", LAB_USER])  # fmt: skip
