"""Finding the machines that were started from replicas, by the mark that their XML carries."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import libvirt

from ...domain.errors import Refused
from ..port import Intent
from . import xmlsafe
from .connection import Connection, mapped
from .domain_write import NAMESPACE

_INTENTS = uuid.UUID("5d1c2f0e-7d51-4b39-9a86-3c1f6f5f2f10")   # namespace of uuids from intents

DISCARDED = "discarded"
"""Kind of a machine that is on its way out."""

KEPT, KEPT_OFF, KEPT_FLUSHING = "kept", "kept-off", "kept-flushing"
"""Kinds of a machine that becomes one of its own: the second was off when that began, the third is
paused by us for a moment."""


BUILT = "built"
"""Kind of a machine that was made at a new place for a failback; it stands on no point."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Content of the metadata element of a started replica."""

    rule: str
    number: int
    intent: str
    kind: str                       # failover, test, discarded, kept…

    def tags(self) -> Mapping[str, str]:
        return {"rule": self.rule, "point": str(self.number), "intent": self.intent,
                "kind": self.kind}


def mark_of(domain: Any) -> Mark | None:
    """The mark of a domain, None when it has none that we can read."""
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE)
        tags = xmlsafe.parse(text).attrib
        return Mark(tags["rule"], int(tags["point"]), tags["intent"], tags["kind"])
    except (libvirt.libvirtError, Refused, KeyError, ValueError):
        return None     # no mark, gone since it was listed, or not written by us


def set_mark(domain: Any, mark: Mark) -> None:
    """Replace the mark of a lasting domain, also while it runs."""
    element = ET.Element("replica", dict(mark.tags()))
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with mapped():
        if domain.isActive():
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                           ET.tostring(element, encoding="unicode"), "hotspare", NAMESPACE, flags)


def marked(connection: Connection, rule: str) -> Iterator[tuple[Any, Mark]]:
    """All domains of the host that were started from replicas of ``rule``."""
    with mapped():
        domains = connection.conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    for domain in domains:
        mark = mark_of(domain)
        if mark is not None and mark.rule == rule:
            yield domain, mark


def by_name(connection: Connection, name: str) -> Any | None:
    """The domain ``name`` or None."""
    return _found(lambda: connection.conn.lookupByName(name), name)


def by_uuid(connection: Connection, uuid: str) -> Any | None:
    """The domain ``uuid`` or None."""
    return _found(lambda: connection.conn.lookupByUUIDString(uuid), uuid)


def uuid_for(connection: Connection, wanted: str, intent: Intent) -> str:
    """``wanted`` unless it is empty or the host has a machine of that uuid, else one that is the
    same for the same intent."""
    if wanted and by_uuid(connection, wanted) is None:
        return wanted
    return str(uuid.uuid5(_INTENTS, str(intent)))


def _found(look: Callable[[], Any], vm: str) -> Any | None:
    with mapped(vm=vm):
        try:
            return look()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise


def refuse_taken(connection: Connection, name: str, rule: str) -> None:
    """Raises Refused ``name.taken`` when a machine that is no replica of ``rule`` is called so."""
    domain = by_name(connection, name)
    if domain is not None:
        mark = mark_of(domain)
        if mark is None or mark.rule != rule:
            raise Refused("name.taken", name=name)
