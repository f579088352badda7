"""libvirt's errors as Hotspare's: by number where libvirt has one, by text where it has none.

Numbers were seen on libvirt 9.0 with QEMU 7.2, texts come from libvirt's and OpenSSH's sources.
Python does not switch the message locale, so both are English.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import libvirt

from ...domain.errors import (
    GiveUp,
    HotspareError,
    OutOfSpace,
    Reconnect,
    Refused,
    Retry,
    TrackingUnusable,
)

_HOST_KEY = re.compile(r"Host key verification failed|REMOTE HOST IDENTIFICATION"
                       r"|No \S+ host key is", re.IGNORECASE)
_NO_AUTH = re.compile(r"Permission denied \(|Too many authentication failures"
                      r"|authentication (failed|unavailable|cancelled)|polkit", re.IGNORECASE)
_NO_RIGHT = re.compile(r"Permission denied$|access denied", re.IGNORECASE)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_LOST = re.compile(r"client socket is closed|connection closed|Cannot (recv|write) data"
                   r"|End of file while reading data|keepalive|Connection (reset|refused|timed out)"
                   r"|Failed to connect socket|Broken pipe|cannot connect|not connected"
                   r"|Could not resolve hostname|No route to host", re.IGNORECASE)

_DISK = re.compile(r"disk '([^']+)'")
_BLOCK_JOB = re.compile(r"active block job|already in a block job|another .*job .*(running|active)"
                        r"|domain backup job is already running", re.IGNORECASE)

# without a reason of QEMU's own behind it: killed, or switched off while libvirt asked it
_QEMU_GONE = re.compile(r"unexpectedly closed the monitor$|(read from|write to) monitor"
                        r"|End of file from qemu monitor"
                        r"|exited while connecting to monitor$", re.IGNORECASE)

# libvirt looks for a port of the screen before QEMU takes it, and somebody else can be quicker
_NO_PORT = re.compile(r"Failed to find an available port: Address already in use")

_AGENT = {libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED,
          getattr(libvirt, "VIR_ERR_AGENT_COMMAND_TIMEOUT", -1),
          getattr(libvirt, "VIR_ERR_AGENT_COMMAND_FAILED", -1)}
_AUTH = {libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_AUTH_CANCELLED,
         libvirt.VIR_ERR_AUTH_UNAVAILABLE}
_DENIED = {libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_ERR_OPERATION_DENIED}
_MISSING = {libvirt.VIR_ERR_NO_STORAGE_POOL: "storage.not-found",
            libvirt.VIR_ERR_NO_STORAGE_VOL: "volume.not-found",
            libvirt.VIR_ERR_NO_DOMAIN: "vm.not-found",
            libvirt.VIR_ERR_NO_NETWORK: "network.not-found"}

_BY_WORDS: tuple[tuple[re.Pattern[str], Callable[..., HotspareError]], ...] = (
    (_BLOCK_JOB, partial(Retry, "source.busy", after_s=30)),
    (_QEMU_GONE, partial(Retry, "platform.qemu-ended", after_s=1)),
    (_NO_PORT, partial(Retry, "platform.qemu-ended", after_s=1)),
    (_NO_SPACE, partial(OutOfSpace, "host.no-space")))


def ssh_fault(text: str, **fields: Any) -> HotspareError | None:
    """The error behind what ssh printed, None when it names no cause that we know."""
    fields = {**fields, "reason": text}
    if _HOST_KEY.search(text):
        return GiveUp("ssh.host-key", **fields)
    if _NO_AUTH.search(text):
        return GiveUp("platform.auth", **fields)
    return None


def translate(error: Any, **fields: Any) -> HotspareError:
    """The :class:`HotspareError` for a ``libvirt.libvirtError``; ``fields`` are added to it."""
    code, text = error.get_error_code(), str(error.get_error_message() or error)
    fields = {**fields, "reason": text, "libvirt": code}
    known = ssh_fault(text, **fields)
    if known is not None:
        return known
    if code in _AUTH:
        return GiveUp("platform.auth", **fields)
    if code in _DENIED:
        return GiveUp("platform.denied", **fields)
    if code in _MISSING:
        return GiveUp(_MISSING[code], **fields)
    if code in _AGENT:
        return Retry("agent.unresponsive", after_s=30, **fields)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        # the domain's job lock is held: another tool's job, or ours in another thread
        return Retry("platform.busy", after_s=10, **fields)
    if code in (libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT, libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT):
        found = _DISK.search(text)
        return TrackingUnusable("tracking.broken", **{"disk": found.group(1) if found else "",
                                                      **fields})
    for words, fault in _BY_WORDS:
        if words.search(text):
            return fault(**fields)
    if (code in (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC)
            or (error.get_error_domain() == libvirt.VIR_FROM_RPC and _LOST.search(text))):
        if _NO_RIGHT.search(text):
            return GiveUp("platform.denied", **fields)
        return Reconnect("platform.unreachable", **fields)
    if code in (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_NO_SUPPORT,
                libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED):
        return Refused("platform.unsupported", **fields)
    return GiveUp("platform.failed", **fields)


@contextlib.contextmanager
def mapped(**fields: Any) -> Iterator[None]:
    """Let no libvirt error out of the block: each becomes what :func:`translate` says."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise translate(error, **fields) from error


def error_code(error: Any) -> int:
    """libvirt's number of an error (``VIR_ERR_…``)."""
    return int(error.get_error_code())
