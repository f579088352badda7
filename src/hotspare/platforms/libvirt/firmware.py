"""A machine's UEFI variables, wherever libvirt keeps them."""

from __future__ import annotations

import re
from typing import Any

import libvirt

from ...domain.errors import GiveUp
from .files import download_file
from .xmlsafe import ET, text

_PFLASH = re.compile(r"'\{[^']*\"filename\":\"([^\"]+)\"[^']*\"node-name\":\"libvirt-pflash1-"
                     r"storage\"")


def variables(conn: Any, root: ET.Element, *, running: bool) -> bytes | None:
    """The variable store of the domain whose XML ``root`` is, or None when it has none yet.

    Raises what :func:`download_file` does; for a running domain also that the store is not
    found."""
    path = store_path(conn, root)
    if not path:
        return None
    try:
        return download_file(conn, path)
    except GiveUp as error:
        # libvirt makes the store, and its directory, at the first start
        if not running and error.code in ("volume.not-found", "host.directory"):
            return None
        raise


def store_path(conn: Any, root: ET.Element) -> str:
    """Where the variable store of a domain lies, whether it is there yet or not; empty when that
    cannot be told."""
    source = root.find("os/nvram/source")   # libvirt 8.5 on: <nvram type='file'><source file=…
    return (text(root, "os/nvram") or ("" if source is None else source.get("file", ""))
            or _planned_path(conn, root))


def _planned_path(conn: Any, root: ET.Element) -> str:
    """Where libvirt would look for the store at the next start.

    Where libvirt chooses the firmware itself, a domain that is off does not show the path
    (libvirt 9.0). It is in the command line that libvirt would use; a domain of the same name
    without devices is asked for, as devices are prepared in earnest even for that (tap devices)."""
    minimal = ET.Element("domain", {"type": "qemu"})
    for tag in ("name", "uuid", "memory", "vcpu", "os", "features"):
        element = root.find(tag)
        if element is not None:
            minimal.append(element)
    try:
        command = conn.domainXMLToNative("qemu-argv", ET.tostring(minimal, encoding="unicode"), 0)
    except libvirt.libvirtError:
        return ""
    found = _PFLASH.search(command)
    return found.group(1) if found else ""
