"""Networks that only one test's copy is on: libvirt networks without any way out.

They are transient: made with the test, gone with it, and not there after a restart of the host.
"""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

from ...domain.errors import HotspareError
from ...domain.machine import VmDescription
from ...faultpoints import fault_point
from ..port import Intent, Isolation, Leftover
from . import names
from .connection import Connection, mapped
from .volumes import new_element

_SUBNETS = list(ipaddress.IPv4Network("198.18.0.0/15").subnets(new_prefix=28))
"""For tests of networks (RFC 2544): no site routes them. A host that does is refused by libvirt,
and another one is tried."""

_TRIES = 4


def make(connection: Connection, vm: VmDescription, reach: str | None,
         intent: Intent) -> Isolation:
    """See :meth:`Rehearsal.isolate`."""
    remove(connection, intent)      # of an attempt that was killed: nothing stands on it yet
    sources = list(dict.fromkeys(nic.network for nic in vm.nics))
    reason, address = "", ""
    made: dict[str, str] = {}
    for index, source in enumerate(sources):
        name = names.test_network(intent, index)
        try:
            if index == 0 and reach is not None:
                address, reason = _reachable(connection, name, reach, intent)
            if index or not address:
                _create(connection, name)
        except HotspareError as error:
            if error.action != "give_up":
                raise
            remove(connection, intent)
            return Isolation(dict.fromkeys(sources, "user"), connected=False,
                             reason=str(error.fields.get("reason", error)))
        made[source] = name
        fault_point("rehearsal.after-network")
    return Isolation(made, connected=True, reason=reason, address=address)


def remove(connection: Connection, intent: Intent) -> list[Leftover]:
    """End the networks of a test."""
    found = []
    for network, made_for in _ours(connection, intent.rule):
        if made_for == intent:
            with mapped(network=network.name()):
                network.destroy()
            found.append(Leftover("network", network.name()))
    return found


def intents(connection: Connection, rule: str) -> set[Intent]:
    """Tests of the rule that have networks."""
    return {intent for _, intent in _ours(connection, rule)}


def leases(connection: Connection, intent: Intent) -> list[str]:
    """Addresses that machines took in the networks of a test."""
    found = []
    for network, made_for in _ours(connection, intent.rule):
        if made_for == intent:
            with mapped(network=network.name()):
                found += [lease["ipaddr"] for lease in network.DHCPLeases()]
    return found


# --- inside ------------------------------------------------------------------------------------


def _ours(connection: Connection, rule: str) -> Iterator[tuple[Any, Intent]]:
    try:
        with mapped():
            networks = connection.conn.listAllNetworks(0)
    except HotspareError as error:
        if error.code == "platform.unsupported":
            return          # a host without libvirt's network driver
        raise
    for network in networks:
        intent = names.test_of_network(network.name(), rule)
        if intent is not None:
            yield network, intent


def _reachable(connection: Connection, name: str, reach: str, intent: Intent) -> tuple[str, str]:
    """The host's address in a network that was made with one, or why none could be made."""
    reason = ""
    for attempt in range(_TRIES):
        if reach == "dhcp":
            subnet = _SUBNETS[(intent.task * _TRIES + attempt) % len(_SUBNETS)]
            host, *leased = subnet.hosts()
        else:
            guest = ipaddress.IPv4Interface(reach)
            subnet, leased = guest.network, []
            host = next(a for a in subnet.hosts() if a != guest.ip)
        try:
            _create(connection, name, f"{host}/{subnet.prefixlen}", [str(a) for a in leased])
            return str(host), ""
        except HotspareError as error:
            if error.action != "give_up":
                raise
            reason = str(error.fields.get("reason", error))
            if reach != "dhcp" or "already in use" not in reason:
                break
    return "", reason


def _create(connection: Connection, name: str, address: str = "", leased: list[str] | None = None
            ) -> None:
    root = ET.Element("network")
    new_element(root, "name", name)
    # without a forward element nothing is routed; the copy should not wait for a spanning tree
    new_element(root, "bridge", stp="off", delay="0")
    # names that the host can look up would be a way out
    new_element(root, "dns", enable="no")
    if address:
        host, _, prefix = address.partition("/")
        ip = new_element(root, "ip", address=host, prefix=prefix)
        if leased:
            new_element(new_element(ip, "dhcp"), "range", start=leased[0], end=leased[-1])
    with mapped(network=name):
        connection.conn.networkCreateXML(ET.tostring(root, encoding="unicode"))
