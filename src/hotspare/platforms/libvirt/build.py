"""A machine at a new place, for a failback whose source is gone: built from the model, with empty
disks that are named for it.

It is defined before its files are made, and undefined after they are deleted: so its definition
always tells what there is of it, and its mark whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import libvirt

from ...domain.errors import GiveUp, HotspareError, Refused
from ...domain.machine import VmDescription
from ...faultpoints import fault_point
from ..port import Intent, Leftover
from . import host_facts, keep, names, started
from .connection import Connection, mapped
from .domain_write import Placement, disk_targets, domain_xml
from .files import in_directory
from .inventory import find_machine
from .power import power_off, undefine
from .session import checked_disks
from .started import BUILT, Mark
from .volumes import Pool
from .xmlsafe import parse, text

_VARIABLES: Final = ("nvram", "fd")     # of a file's name


def build(connection: Connection, vm: VmDescription, name: str, storage: str,
          networks: Mapping[str, str], intent: Intent) -> str:
    """See :meth:`WriteBack.build`."""
    mark = Mark(names.checked_rule(intent.rule), 0, str(intent), BUILT)
    pool = Pool(connection, storage)
    files = {disk: keep.files(name, mark, target)
             for disk, target in disk_targets(vm.disks).items()}
    domain = _own(connection, mark, name)
    if domain is None:
        checked_disks(vm.disks)
        pool.check()
        facts = host_facts.read(connection, vm)
        facts.check(vm, networks)
        if started.by_name(connection, name) is not None:
            raise Refused("name.taken", name=name)
        nvram = pool.path(keep.files(name, mark, *_VARIABLES)) if vm.firmware != "bios" else ""
        place = Placement(name, started.uuid_for(connection, vm.uuid, intent),
                          {disk: pool.path(file) for disk, file in files.items()},
                          facts.links(vm, networks), nvram, True, mark.tags())
        xml = domain_xml(vm, place, facts.host)
        with mapped(vm=name):
            domain = connection.conn.defineXML(xml)
        fault_point("build.after-define")
    try:
        for disk in vm.disks:
            if pool.find(files[disk.id]) is None:
                pool.create(files[disk.id], disk.size, "qcow2")
        fault_point("build.after-disks")
    except GiveUp:
        demolish(connection, name, intent)
        raise
    with mapped(vm=name):
        return str(domain.UUIDString())


def let_go(connection: Connection, vm: str, intent: Intent) -> None:
    """See :meth:`WriteBack.let_go`."""
    domain = built(connection, vm, intent)
    if domain is not None:
        keep.let_go(domain, vm)


def demolish(connection: Connection, vm: str, intent: Intent) -> list[Leftover]:
    """See :meth:`WriteBack.demolish`."""
    domain = built(connection, vm, intent)
    if domain is None:
        return []
    power_off(domain, vm)
    found = []
    for path in _files(domain, intent):
        error = ""
        with in_directory(connection, path) as (pool, file):
            try:
                if not pool.delete(file):
                    continue
            except HotspareError as fault:
                error = str(fault)
        found.append(Leftover("volume", path, error))
    fault_point("demolish.after-disks")
    if not any(leftover.error for leftover in found):
        with mapped():
            found.append(Leftover("domain", domain.name()))
        undefine(domain, vm)
    return found


def _own(connection: Connection, mark: Mark, name: str) -> Any | None:
    """What an earlier attempt of the same intent defined."""
    for domain, found in started.marked(connection, mark.rule):
        if found == mark:
            with mapped():
                if domain.name() != name:
                    raise Refused("point.mismatch", expected=name, found=domain.name())
            return domain
    return None


def built(connection: Connection, vm: str, intent: Intent) -> Any | None:
    """The machine ``vm`` if it is there and still marked as built for ``intent``."""
    try:
        domain = find_machine(connection, vm)
    except GiveUp as error:
        if error.code == "vm.not-found":
            return None
        raise
    mark = started.mark_of(domain)
    mine = mark is not None and (mark.kind, mark.intent) == (BUILT, str(intent))
    return domain if mine else None


def _files(domain: Any, intent: Intent) -> Iterator[str]:
    """Paths of the files that we made; somebody may have given it others since."""
    with mapped():
        root = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    name, mark = text(root, "name"), Mark(intent.rule, 0, str(intent), BUILT)
    nvram = text(root, "os/nvram")
    if PurePosixPath(nvram).name == keep.files(name, mark, *_VARIABLES):
        yield nvram
    for disk in root.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is None or target is None:
            continue
        path = source.get("file", "")
        if PurePosixPath(path).name == keep.files(name, mark, target.get("dev", "")):
            yield path
