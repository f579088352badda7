"""A KVM/libvirt test bed: two hypervisor hosts on one machine, and a guest that verifies its data.

    from testbeds.kvm import Lab

    with Lab() as lab:
        guest = lab.define_guest(lab.a, "web").start()
        guest.wait_ready()

Submodules: image (the guest), accel, users, host, guest, lab, ssh. `python -m testbeds.kvm up`
starts one for trying things by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MissingPrerequisite, TestbedError

if TYPE_CHECKING:
    from .accel import detect_accel
    from .guest import ExecResult, Guest, Verified
    from .host import SessionHost
    from .lab import Lab
    from .ssh import SshServer

__all__ = [
    "ExecResult",
    "Guest",
    "Lab",
    "MissingPrerequisite",
    "SessionHost",
    "SshServer",
    "TestbedError",
    "Verified",
    "detect_accel",
]

_HOME = {
    "ExecResult": "guest", "Guest": "guest", "Verified": "guest", "Lab": "lab",
    "SessionHost": "host", "SshServer": "ssh", "detect_accel": "accel",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use, so that a machine without libvirt can still say what it lacks."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
