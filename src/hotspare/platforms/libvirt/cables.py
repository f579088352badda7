"""The network cables of a machine: the state of its cards' links."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import libvirt

from .connection import mapped
from .xmlsafe import parse


def plug(domain: Any, plugged: bool) -> None:
    """Put all cables in, or take them out: as it runs, and as it will start. Idempotent."""
    with mapped():
        variants = [(libvirt.VIR_DOMAIN_AFFECT_CONFIG, libvirt.VIR_DOMAIN_XML_INACTIVE)]
        if domain.isActive():
            variants.append((libvirt.VIR_DOMAIN_AFFECT_LIVE, 0))
        for affects, shows in variants:
            for card in parse(domain.XMLDesc(shows)).iterfind("devices/interface"):
                link = card.find("link")
                if link is None:
                    link = ET.SubElement(card, "link")
                link.set("state", "up" if plugged else "down")
                domain.updateDeviceFlags(ET.tostring(card, encoding="unicode"), affects)
