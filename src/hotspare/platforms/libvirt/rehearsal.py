"""Tests on libvirt: the copy's isolated networks, its signs of life, and its removal.

All that belongs to a test is found by the rule, epoch and task in its names: networks and volumes;
the domain by its mark. So it is cleared whoever made it, and however far that came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import libvirt
import libvirt_qemu

from ...domain.errors import GiveUp
from ...faultpoints import fault_point
from ..port import Intent, Isolation, Leftover, ReplicaRef, Running, Screen
from . import isolation, names, screen, started
from .connection import Connection, mapped
from .liberrors import translate
from .power import power_of, power_off, undefine
from .replica import Replica

_AGENT_S: Final = 1
_ENDED: Final = {libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "shut-down",
                 libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed"}


class LibvirtRehearsal:
    """Implements :class:`~hotspare.platforms.port.Rehearsal`."""

    virts = frozenset({"kvm", "qemu"})

    def __init__(self, connection: Connection, key: bytes) -> None:
        self._connection = connection
        self._key = key

    def isolate(self, replica: ReplicaRef, number: int, reach: str | None,
                intent: Intent) -> Isolation:
        there = Replica(self._connection, self._key, replica)
        point = there.lineage().point(number)
        if point is None:
            raise GiveUp("point.not-found", number=number)
        return isolation.make(self._connection, point.vm, reach, intent)

    # --- signs of life -------------------------------------------------------------------------

    def screen(self, running: Running) -> Screen | None:
        domain = started.by_uuid(self._connection, running.ref)
        return None if domain is None else screen.read(self._connection, domain)

    def heartbeat(self, running: Running) -> bool | None:
        domain = started.by_uuid(self._connection, running.ref)
        if domain is None:
            return False
        try:
            libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-ping"}', _AGENT_S, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED:
                return None
            fault = translate(error, vm=running.name)
            if fault.action == "reconnect":
                raise fault from error
            return False
        return True

    def addresses(self, running: Running) -> Sequence[str]:
        intent = names.intent_of(running.intent)
        return [] if intent is None else isolation.leases(self._connection, intent)

    def ended(self, running: Running) -> str:
        domain = started.by_uuid(self._connection, running.ref)
        if domain is None:
            return "other"
        if power_of(domain) != "off":
            return ""
        with mapped(vm=running.name):
            _state, reason = domain.state()
        return _ENDED.get(reason, "other")

    # --- leftovers -----------------------------------------------------------------------------

    def left(self, replica: ReplicaRef) -> Sequence[Intent]:
        there = Replica(self._connection, self._key, replica)
        found = {Intent(there.rule, parsed.epoch, parsed.task)
                 for volume in there.pool.names()
                 if (parsed := names.parse(volume, there.rule)) is not None
                 and parsed.kind in ("test", "test-nvram")}
        found |= {intent for _, intent in self._machines(there.rule)}
        found |= isolation.intents(self._connection, there.rule)
        return sorted(found, key=lambda i: i.task)

    def clear(self, replica: ReplicaRef, intent: Intent) -> list[Leftover]:
        there = Replica(self._connection, self._key, replica)
        found = []
        for domain, made_for in self._machines(there.rule):
            if made_for == intent:
                name = domain.name()
                power_off(domain, name)
                fault_point("rehearsal.after-destroy")
                undefine(domain, name)
                found.append(Leftover("domain", name))
        fault_point("rehearsal.after-undefine")
        for volume, parsed in there.volume_names().items():
            if parsed.kind in ("test", "test-nvram") and parsed.task == intent.task:
                there.pool.delete(volume)
                found.append(Leftover("volume", volume))
        fault_point("rehearsal.after-volumes")
        return found + isolation.remove(self._connection, intent)

    def _machines(self, rule: str) -> Iterator[tuple[Any, Intent]]:
        for domain, mark in started.marked(self._connection, rule):
            intent = names.intent_of(mark.intent)
            if mark.kind == "test" and intent is not None:
                yield domain, intent
