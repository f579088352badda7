"""Networks for the copy of a test: a switch of the host without an uplink, a port group for each
network that the machine had, each with a VLAN of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pyVmomi import vim

from ...domain.errors import GiveUp, HotspareError
from ...domain.machine import VmDescription
from ...domain.messages import text_of
from ..port import Isolation, Leftover
from .connection import Connection


def _system(connection: Connection, host: Any) -> Any:
    return connection.read(host, "configManager.networkSystem")["configManager.networkSystem"]


def make(connection: Connection, host: Any, vm: VmDescription, switch: str,
         reach: str | None) -> Isolation:
    """What was made before under the same name is made anew. The host itself gets no address:
    who is to reach the copy would have to be a machine on that switch."""
    sources = list(dict.fromkeys(nic.network for nic in vm.nics))
    try:
        list(remove(connection, host, switch))
        system = _system(connection, host)
        with connection.calls():
            system.AddVirtualSwitch(switch, vim.host.VirtualSwitch.Specification(numPorts=64))
        made = {}
        for place, source in enumerate(sources, 1):
            made[source] = f"{switch}-{place}"
            with connection.calls():
                system.AddPortGroup(vim.host.PortGroup.Specification(
                    name=made[source], vlanId=place, vswitchName=switch,
                    policy=vim.host.NetworkPolicy()))
    except HotspareError as error:
        if error.action == "reconnect":
            raise
        any_network = next(str(v["name"]) for _, v in connection.collect(vim.Network, ["name"]))
        return Isolation(dict.fromkeys(sources, any_network), connected=False, reason=str(error))
    return Isolation(made, connected=True, reason="" if reach is None else text_of(
        "isolation.no-address", {}).message)


def remove(connection: Connection, host: Any, switch: str) -> Iterator[Leftover]:
    """Idempotent; the machines on it are gone."""
    system = _system(connection, host)
    found = connection.read(system, "networkInfo")["networkInfo"]
    for group in found.portgroup:
        if group.spec.vswitchName == switch:
            with _gone(), connection.calls():
                system.RemovePortGroup(group.spec.name)
            yield Leftover("network", group.spec.name)
    if any(s.name == switch for s in found.vswitch):
        with _gone(), connection.calls():
            system.RemoveVirtualSwitch(switch)
        yield Leftover("network", switch)


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except GiveUp as error:
        if not isinstance(error.__cause__, vim.fault.NotFound):
            raise
