"""Checkpoints of Hotspare: the changed-block tracking that outlives a run.

A checkpoint's name is its intent's, so rule, epoch, task and instant can be read from it. Nothing
here touches a checkpoint of another rule or another tool.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import libvirt

from ...domain.errors import Refused
from ...domain.machine import DiskSpec, VmDescription
from ..port import Intent, Token
from .jobs import checkpoint_xml
from .liberrors import mapped, translate
from .xmlsafe import ET, parse

_NO_BITMAP = re.compile(r"bitmap '[^']+' not found in backing chain of '([^']+)'")
_VALIDATE = (libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
             | libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE)
_MAX_DISKS = 64


def own(domain: Any, rule: str) -> dict[str, Intent]:
    """The checkpoints of a rule by name."""
    with mapped():
        names = [c.getName() for c in domain.listAllCheckpoints(0)]
    found = {}
    for name in names:
        intent = Intent.of_name(name)
        if intent is not None and intent.rule == rule and str(intent) == name:
            found[name] = intent
    return found


def exists(domain: Any, name: str) -> bool:
    return _lookup(domain, name) is not None


def _lookup(domain: Any, name: str) -> Any:
    with mapped():
        try:
            return domain.checkpointLookupByName(name, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT:
                return None
            raise


def token(domain: Any, name: str, vm: VmDescription) -> Token | None:
    """The token of checkpoint ``name``: what a later run needs to trust it, and to bring its
    metadata back when the host lost it. None when there is no such checkpoint."""
    checkpoint = _lookup(domain, name)
    if checkpoint is None:
        return None
    with mapped():
        xml = checkpoint.getXMLDesc(0)
    return {"checkpoint": name, "xml": xml,
            "disks": {d.id: {"size": d.size, "source": d.location} for d in vm.disks
                      if d.tracking}}


def restore(domain: Any, base: Token) -> bool:
    """Make sure that libvirt knows the base's checkpoint, from the token's XML if need be.

    libvirt forgets checkpoints when a domain is undefined, migrated, or its state directory is
    lost; the bitmaps stay in the images. REDEFINE_VALIDATE checks that they are there and sound.
    False: the base is gone."""
    name = str(base.get("checkpoint", ""))
    if exists(domain, name):
        return True
    flags = (_VALIDATE if domain.isActive()
             else libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)
    try:
        domain.checkpointCreateXML(str(base.get("xml", "")), flags)
    except libvirt.libvirtError as error:
        fault = translate(error)
        if fault.action != "give_up":
            raise fault from error
        return False
    return True


def announce(domain: Any, name: str, disks: Sequence[str]) -> None:
    """Let libvirt know a checkpoint whose bitmaps are made by somebody else. Idempotent."""
    if exists(domain, name):
        return
    root = parse(checkpoint_xml(name, disks))
    ET.SubElement(root, "creationTime").text = str(int(time.time()))
    with mapped(checkpoint=name):
        root.append(parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
        domain.checkpointCreateXML(ET.tostring(root, encoding="unicode"),
                                   libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)


def sound(domain: Any, name: str) -> bool:
    """Whether the bitmaps of a checkpoint of a running domain are all there and consistent."""
    checkpoint = _lookup(domain, name)
    if checkpoint is None:
        return False
    try:
        domain.checkpointCreateXML(checkpoint.getXMLDesc(0), _VALIDATE)
    except libvirt.libvirtError as error:
        fault = translate(error)
        if fault.action != "give_up":
            raise fault from error
        return False
    return True


def untold(disk: DiskSpec, base: Token | None) -> str:
    """Why a disk's changes since ``base`` cannot be told, as far as the token alone says; empty
    when they may be."""
    if not disk.tracking:
        return "tracking.raw"
    if base is None:
        return "first-copy"
    entry = dict(base.get("disks") or {}).get(disk.id)
    if entry is None:
        return "tracking.disk-added"
    if int(entry.get("size", 0)) > disk.size:
        return "tracking.disk-shrunk"
    return ""


def whole(blocks: Sequence[Mapping[str, Any]], node: str, name: str) -> bool:
    """Whether the bitmap of checkpoint ``name`` at a block node holds all that was written since.

    ``blocks`` is QEMU's answer to query-named-block-nodes. libvirt (6.7 on) keeps the bitmaps of
    all checkpoints recording; after an external snapshot each layer has its own part of one, and
    only libvirt's backup of a running machine puts them together."""
    def bitmap(block: Mapping[str, Any]) -> Mapping[str, Any]:
        return next((b for b in block.get("dirty-bitmaps", ()) if b.get("name") == name), {})

    own = next(b for b in blocks if b["node-name"] == node)
    if not bitmap(own).get("recording") or bitmap(own).get("inconsistent"):
        return False
    parts = {b["image"]["filename"] for b in blocks if bitmap(b)}
    below = own["image"].get("backing-image")
    while below:
        if below["filename"] in parts:
            return False
        below = below.get("backing-image")
    return True


def delete(domain: Any, name: str) -> None:
    """Delete a checkpoint of a running domain. Idempotent.

    libvirt fails on a bitmap that a crash of QEMU took with it and leaves those of the other
    disks: such a disk is taken out of the checkpoint first, so that no bitmap stays for ever.
    Raises Refused ``checkpoint.off`` for a domain that is off: only a QEMU can remove bitmaps."""
    for _attempt in range(_MAX_DISKS):
        checkpoint = _lookup(domain, name)
        if checkpoint is None:
            return
        try:
            checkpoint.delete(0)
            return
        except libvirt.libvirtError as error:
            fault = translate(error, checkpoint=name)
            missing = _NO_BITMAP.search(str(error))
            if not domain.isActive():
                raise Refused("checkpoint.off", checkpoint=name) from error
            if missing is None and fault.code != "tracking.broken":
                raise fault from error
        if missing is None or not _leave_out(domain, checkpoint, missing.group(1)):
            break
    with mapped(checkpoint=name):
        checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)


def _leave_out(domain: Any, checkpoint: Any, disk: str) -> bool:
    """Redefine the checkpoint without one disk. False when there is no other, or libvirt will
    not."""
    try:
        root = parse(checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN))
        with_bitmap = [d for d in root.findall("disks/disk") if d.get("checkpoint") == "bitmap"]
        ours = [d for d in with_bitmap if d.get("name") == disk]
        if not ours or len(with_bitmap) == 1:
            return False
        full = parse(checkpoint.getXMLDesc(0))
        for element in full.findall("disks/disk"):
            if element.get("name") == disk:
                element.attrib.clear()
                element.attrib.update(name=disk, checkpoint="no")
        domain.checkpointCreateXML(ET.tostring(full, encoding="unicode"),
                                   libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)
    except libvirt.libvirtError:
        return False
    return True
