"""An instant of a machine that is off: a helper domain that opens its disks read-only.

The user's machine is never started. The helper is paused and transient and cannot write: QEMU's
image lock keeps the machine from starting while it is there, and nothing else. It goes with our
connection (AUTODESTROY), so that a crash of ours never keeps a machine off; what libvirtd forgets
of that when it dies itself is destroyed by name.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import libvirt

from ...domain.errors import GiveUp, HotspareError, InstantLost, Retry
from ...domain.lineage import Consistency
from ...domain.machine import VmDescription
from ..port import Changes, DirtyContext, Intent, Token, Unknown
from . import checkpoints
from .connection import Connection, socket_path
from .domain_read import Layout
from .jobs import SOCKET_SUFFIX, Tag
from .liberrors import mapped, translate
from .point import SocketDisk, SocketExport
from .xmlsafe import escape, parse, quoteattr, text

PREFIX = "hs-rx-src-"
_MEMORY_MIB = 16
_QUIT_S = 5.0          # libvirt needs some 1.6 s to notice, QEMU and its locks are gone at once


def helper_name(intent: str) -> str:
    """The helper domain of an intent: ``hs-rx-src-RULE-…``."""
    return PREFIX + intent.removeprefix("hs-")


def helpers(conn: Any, rule: str) -> dict[str, Any]:
    """The helper domains of a rule, by the intent's name."""
    with mapped():
        domains = conn.listAllDomains(0)
    names = {d.name(): d for d in domains}
    return {"hs-" + n.removeprefix(PREFIX): d for n, d in names.items()
            if n.startswith(f"{PREFIX}{rule}-")}


def destroy(connection: Connection, helper: Any) -> None:
    """End a helper domain. Idempotent."""
    # the first removes the socket, which a kill would leave; the second releases the images at once
    for command in ("nbd-server-stop", "quit"):
        with contextlib.suppress(HotspareError):
            connection.qmp(helper, command)
    end = time.monotonic() + _QUIT_S
    while time.monotonic() < end and _exists(helper):
        time.sleep(0.02)
    with mapped():
        try:
            helper.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN,
                                              libvirt.VIR_ERR_OPERATION_INVALID):
                raise


def _exists(helper: Any) -> bool:
    try:
        return bool(helper.isActive())
    except libvirt.libvirtError:
        return False


class OfflinePoint:
    """Implements :class:`~hotspare.platforms.port.PointInTime` for a machine that is off.

    No checkpoint is made. The base stays the base: what its bitmaps say is a superset of what
    changed. With no usable base ``token`` is None, and the next run compares.
    """

    stall_ms = 0.0

    def __init__(self, *, connection: Connection, intent: Intent, vm: VmDescription, tag: Tag,
                 token: Token | None, disks: Sequence[SocketDisk], firmware_state: bytes | None,
                 adopted: bool) -> None:
        self._connection, self._intent, self._tag = connection, intent, tag
        self.vm, self.token, self.disks = vm, token, disks
        self.firmware_state, self.adopted = firmware_state, adopted

    @property
    def taken_at(self) -> float:
        return self._tag.taken_at

    @property
    def consistency(self) -> Consistency:
        return self._tag.consistency

    @property
    def note(self) -> str:
        return self._tag.note

    def _helper(self) -> Any:
        return helpers(self._connection.conn, self._intent.rule).get(str(self._intent))

    def healthy(self) -> None:
        if self._helper() is None:
            # the machine may run by now: what changed since is among what changed since the base
            raise InstantLost("source.helper-gone", self.token, vm=self.vm.name)

    def release(self) -> None:
        helper = self._helper()
        if helper is not None:
            destroy(self._connection, helper)
        remove_socket(self._connection, str(self._intent))

    def commit(self) -> None:
        self.release()


def remove_socket(connection: Connection, intent: str) -> None:
    """Remove a socket that a killed QEMU left. Only possible on a host that is this machine; a
    leftover elsewhere is empty, and its name is never used again."""
    if not connection.remote:
        with contextlib.suppress(OSError, HotspareError):
            Path(socket_path(connection.socket_dir, intent + SOCKET_SUFFIX)).unlink()


# --- opening -----------------------------------------------------------------------------------


def find(connection: Connection, intent: Intent, vm: VmDescription, base: Token | None,
         firmware_state: bytes | None) -> OfflinePoint | None:
    """The instant that an earlier process (or connection) of this intent holds open."""
    helper = helpers(connection.conn, intent.rule).get(str(intent))
    if helper is None:
        return None
    with mapped():
        note = json.loads(text(parse(helper.XMLDesc(0)), "description"))
    tag = Tag(note["taken_at"], note["consistency"], note["note"])
    changes = {d: (DirtyContext(c["context"]) if "context" in c else Unknown(c["reason"]))
               for d, c in note.get("changes", {}).items()}
    return _point(connection, intent, vm, tag, base, changes, firmware_state, True)


def open_helper(connection: Connection, intent: Intent, layout: Layout, base: Token | None,
                unknown: Mapping[str, str], firmware_state: bytes | None) -> OfflinePoint:
    """Start the helper and export the disks, with the base's bitmap where it can be trusted.

    ``unknown``: the disks that are known to have no tracking, and why. Raises Retry
    ``source.vm-starting`` when the machine was started meanwhile."""
    tag = Tag(time.time(), *_state(layout))
    checkpoint = str(base["checkpoint"]) if base else ""
    changes: dict[str, Changes] = {}
    # which bitmaps are sound is only seen in the helper itself, so it is made with the best case
    # in its description, and made again without those that are not
    for disk in layout.vm.disks:
        reason = unknown.get(disk.id)
        changes[disk.id] = (Unknown(reason) if reason
                            else DirtyContext(f"qemu:dirty-bitmap:{checkpoint}"))
    while True:
        helper = _start(connection, intent, layout, tag, changes)
        try:
            broken = _unsound(connection, helper, layout, changes, checkpoint)
            if not broken:
                _export(connection, helper, intent, layout, changes, tag, checkpoint)
                break
        except BaseException:
            destroy(connection, helper)
            raise
        destroy(connection, helper)
        changes.update({d: Unknown("tracking.broken") for d in broken})
    return _point(connection, intent, layout.vm, tag, base, changes, firmware_state, False)


def _state(layout: Layout) -> tuple[Consistency, str]:
    # the memory of a saved machine holds what its disks do not: like a crash, to a copy of them
    return ("crash", "vm.saved") if layout.saved else ("off", "")


def _point(connection: Connection, intent: Intent, vm: VmDescription, tag: Tag,
           base: Token | None, changes: Mapping[str, Changes], firmware_state: bytes | None,
           adopted: bool) -> OfflinePoint:
    socket = socket_path(connection.socket_dir, f"{intent}{SOCKET_SUFFIX}")
    disks = [SocketDisk(d, SocketExport(connection, socket, tag.export(d.id)), changes[d.id])
             for d in vm.disks if d.id in changes]
    if len(disks) != len(vm.disks):
        raise InstantLost("source.disks-changed", None, vm=vm.name)
    tracked = {d.spec.id: d.spec for d in disks if isinstance(d.changes, DirtyContext)}
    token: Token | None = None
    if base and tracked:
        token = {**base, "disks": {i: {"size": d.size, "source": d.location}
                                   for i, d in tracked.items()}}
    return OfflinePoint(connection=connection, intent=intent, vm=vm, tag=tag, token=token,
                        disks=disks, firmware_state=firmware_state, adopted=adopted)


def _alias(number: int) -> str:
    return f"ua-hs{number}"


def _start(connection: Connection, intent: Intent, layout: Layout, tag: Tag,
           changes: Mapping[str, Changes]) -> Any:
    note = {"taken_at": tag.taken_at, "consistency": tag.consistency, "note": tag.note,
            "changes": {d: ({"context": c.context} if isinstance(c, DirtyContext)
                            else {"reason": c.reason if isinstance(c, Unknown) else ""})
                        for d, c in changes.items()}}
    disks = []
    for number, disk in enumerate(layout.vm.disks):
        source = dict(layout.sources[disk.id])
        kind = source.pop("type")
        attributes = " ".join(f"{k}={quoteattr(v)}" for k, v in source.items())
        disks.append(
            f"<disk type={quoteattr(kind)} device='disk'><driver name='qemu' "
            f"type={quoteattr(disk.format)}/><source {attributes}/>"
            f"<target dev='vd{_letters(number)}' bus='virtio'/><readonly/>"
            f"<alias name='{_alias(number)}'/></disk>")
    xml = (f"<domain type='qemu'><name>{helper_name(str(intent))}</name>"
           f"<description>{escape(json.dumps(note))}</description>"
           f"<memory unit='MiB'>{_MEMORY_MIB}</memory><vcpu>1</vcpu>"
           f"<os><type arch={quoteattr(layout.vm.arch)}>hvm</type></os><devices>{''.join(disks)}"
           "<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>")
    conn = connection.conn
    try:
        return conn.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED
                              | libvirt.VIR_DOMAIN_START_AUTODESTROY)
    except libvirt.libvirtError as error:
        if "lock" in str(error):
            raise Retry("source.vm-starting", after_s=5, vm=layout.vm.name) from error
        raise translate(error, vm=layout.vm.name) from error


def _letters(number: int) -> str:
    return ("" if number < 26 else chr(ord("a") + number // 26 - 1)) + chr(ord("a") + number % 26)


def _nodes(connection: Connection, helper: Any) -> dict[str, str]:
    """Name of each disk's topmost format layer, by alias."""
    found = {}
    for device in connection.qmp(helper, "query-block"):
        inserted = device.get("inserted")
        parts = str(device.get("qdev", "")).split("/")
        alias = next((p for p in parts if p.startswith("ua-hs")), "")
        if inserted and alias:
            found[alias] = str(inserted["node-name"])
    return found


def _unsound(connection: Connection, helper: Any, layout: Layout, changes: Mapping[str, Changes],
             checkpoint: str) -> list[str]:
    """Disks of ``changes`` whose bitmap is not the whole truth."""
    nodes = _nodes(connection, helper)
    blocks = connection.qmp(helper, "query-named-block-nodes")
    return [disk.id for number, disk in enumerate(layout.vm.disks)
            if isinstance(changes[disk.id], DirtyContext)
            and not checkpoints.whole(blocks, nodes[_alias(number)], checkpoint)]


def _export(connection: Connection, helper: Any, intent: Intent, layout: Layout,
            changes: Mapping[str, Changes], tag: Tag, checkpoint: str) -> None:
    socket = socket_path(connection.socket_dir, f"{intent}{SOCKET_SUFFIX}")
    connection.qmp(helper, "nbd-server-start",
                   addr={"type": "unix", "data": {"path": socket}}, max_connections=16)
    nodes = _nodes(connection, helper)
    for number, disk in enumerate(layout.vm.disks):
        node = nodes.get(_alias(number))
        if node is None:
            raise GiveUp("disk.unreadable", disk=disk.id, reason="no block node")
        extra = ({"bitmaps": [checkpoint]} if isinstance(changes[disk.id], DirtyContext) else {})
        connection.qmp(helper, "block-export-add", type="nbd", id=f"e{number}", node_name=node,
                       name=tag.export(disk.id), writable=False, **extra)
