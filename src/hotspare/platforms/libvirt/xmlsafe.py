"""libvirt's XML, read as if an enemy had written it: without document types and entities."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ...domain.errors import Refused

__all__ = ["ET", "escape", "flag", "parse", "quoteattr", "text"]

MAX_CHARS = 4 * 1024 * 1024
"""libvirt's own limit of a string in its protocol."""


def escape(value: str) -> str:
    """``value`` as the content of an element. (xml.sax.saxutils takes 30 ms to import.)"""
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def quoteattr(value: str) -> str:
    """``value`` as an attribute, with its quotes."""
    value = escape(value).replace('"', "&quot;")
    return '"' + value.replace("\n", "&#10;").replace("\r", "&#13;").replace("\t", "&#9;") + '"'


def parse(source: str) -> ET.Element:
    """The root element. Raises Refused ``platform.xml`` for what libvirt never writes.

    libvirt escapes ``<`` in all content, so ``<!`` can only begin a comment here, a document type
    or a marked section; entities (and with them expansion bombs and file reads) need the second.
    """
    if len(source) > MAX_CHARS or "<!DOCTYPE" in source or "<!ENTITY" in source:
        raise Refused("platform.xml", reason="document type or size")
    try:
        return ET.fromstring(source)  # noqa: S314 - see above
    except ET.ParseError as error:
        raise Refused("platform.xml", reason=str(error)) from error


def text(element: ET.Element, path: str, default: str = "") -> str:
    """The stripped text of the element at ``path``."""
    return (element.findtext(path) or default).strip()


def flag(element: ET.Element | None, name: str, default: bool = False) -> bool:
    """An attribute of libvirt's yes/no or on/off kind."""
    if element is None or name not in element.attrib:
        return default
    return element.attrib[name] in ("yes", "on")
