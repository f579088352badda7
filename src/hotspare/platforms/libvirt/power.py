"""The power of a machine: what it is, and off through the guest."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

import libvirt

from ...domain.machine import Power
from .connection import mapped

_POLL_S: Final = 0.1
_AGENT_S: Final = 5
_ASK_EVERY_S: Final = 15.0      # a guest that was booting has not heard it
_UNDEFINE: Final = (libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def power_of(domain: Any) -> Power:
    """As seen from outside: a machine that shuts down runs until it is off."""
    with mapped():
        return power_named(domain.state()[0])


def power_named(state: int) -> Power:
    """Of a ``VIR_DOMAIN_…`` state."""
    if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED,
                 libvirt.VIR_DOMAIN_SHUTDOWN):
        return "running"
    if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
        return "paused"
    return "off"


def shut_down(domain: Any, grace_s: float) -> bool:
    """Ask the guest to shut down, and wait; whether it is off."""
    now = time.monotonic()
    end, ask_at = now + grace_s, now
    while power_of(domain) != "off":
        now = time.monotonic()
        if now >= end:
            return False
        if now >= ask_at:
            ask_at = now + _ASK_EVERY_S
            # libvirt tries the agent first when it answers, and else presses the power button
            with contextlib.suppress(libvirt.libvirtError):
                # a hung agent otherwise blocks the call for ever
                domain.agentSetResponseTimeout(_AGENT_S, 0)
            with contextlib.suppress(libvirt.libvirtError):
                domain.shutdown()
        time.sleep(_POLL_S)
    return True


def undefine(domain: Any, name: str) -> None:
    """Remove a machine that is off from libvirt, with all that libvirt knows of it. Idempotent."""
    with mapped(vm=name):
        try:
            domain.undefineFlags(_UNDEFINE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise


def power_off(domain: Any, name: str) -> None:
    """Cut its power. Idempotent."""
    try:
        domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID,
                                      libvirt.VIR_ERR_NO_DOMAIN):
            return  # it is off
        with mapped(vm=name):
            domain.destroy()
