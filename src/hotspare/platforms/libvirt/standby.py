"""A replica that runs: layers for its own writes on a point, and a domain built anew over them.

The layers are the durable pin of the point: they are made first, and retirement looks for them
after it has marked a point. All that belongs to a start is found by its task: volumes by their
names, the domain by its mark, the checkpoint by its name. So a start that was killed anywhere is
continued by the same intent, and discard leaves nothing.
"""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import libvirt

from ...domain.errors import GiveUp, HotspareError, Refused
from ...domain.lineage import Lineage, Manifest
from ...domain.machine import Power
from ...faultpoints import fault_point
from ..port import Intent, Progress, ReplicaRef, Running, StartSpec, Token
from . import checkpoints, host_facts, keep, names, started
from .adapt import adapted
from .connection import Connection, mapped
from .domain_read import read_layout
from .domain_write import Placement, disk_targets, domain_xml
from .power import power_of, power_off, shut_down, undefine
from .replica import Replica
from .started import DISCARDED, KEPT, KEPT_FLUSHING, KEPT_OFF, Mark
from .volumes import new_element

_OWN = ("failover", "failover-nvram", "test", "test-nvram")


class LibvirtStandby:
    """Implements :class:`~hotspare.platforms.port.Standby`."""

    def __init__(self, connection: Connection, key: bytes) -> None:
        self._connection = connection
        self._key = key

    def start(self, replica: ReplicaRef, number: int, how: StartSpec, intent: Intent) -> Running:
        there = Replica(self._connection, self._key, replica)
        mark = Mark(there.rule, number, str(intent), how.kind)
        lineage = there.lineage()
        there.check_epoch(lineage, intent.epoch)
        point = _startable(lineage, number)
        point = replace(point, vm=adapted(point.vm, how.devices))
        domain = self._own_domain(replica, how.name, mark)
        made: list[str] = []
        try:
            if domain is None:
                domain = self._define(there, point, how, intent, mark, made)
            self._run(domain, point, how, intent)
        except GiveUp:
            # the call has failed for good: nothing of it is left, unless something of it was
            # there before, which may hold what a machine wrote
            if len(made) == len(point.disks):
                with contextlib.suppress(HotspareError):
                    if domain is not None:
                        power_off(domain, how.name)
                    self._undo(there, domain, how.name, intent)
            raise
        with mapped(vm=how.name):
            return Running(replica, number, how.name, domain.UUIDString(), str(intent))

    def _define(self, there: Replica, point: Manifest, how: StartSpec, intent: Intent,
                mark: Mark, made: list[str]) -> Any:
        """The domain with all that it needs; ``made`` gets the names of new layers."""
        facts = host_facts.read(self._connection, point.vm)
        facts.check(point.vm, how.networks)
        nvram = _nvram_name(how, intent)
        layers = {d.id: _layer_name(how, intent, d.id) for d in point.disks}
        place = Placement(
            how.name, self._uuid(point, how, intent),
            {disk_id: there.pool.path(name) for disk_id, name in layers.items()},
            facts.links(point.vm, how.networks),
            there.pool.path(nvram) if point.firmware_state else "",
            how.connect_network, mark.tags())
        xml = domain_xml(point.vm, place, facts.host)   # before anything is made: it may refuse
        self._layers(there, point, layers, made)
        # the layers are there: a retirement that was not marked before now sees them
        _startable(there.lineage(), point.number)
        self._nvram(there, point, nvram)
        fault_point("standby.after-volumes")
        with mapped(vm=how.name):
            domain = self._connection.conn.defineXML(xml)
        fault_point("standby.after-define")
        return domain

    def find(self, replica: ReplicaRef) -> Running | None:
        for domain, mark in started.marked(self._connection, names.checked_rule(replica.rule)):
            # a half discarded or half kept one too: whoever goes on must find it after a crash
            if mark.kind in ("failover", DISCARDED, KEPT, KEPT_OFF, KEPT_FLUSHING):
                with mapped():
                    return Running(replica, mark.number, domain.name(), domain.UUIDString(),
                                   mark.intent)
        return None

    def power(self, running: Running) -> Power:
        domain = self._domain(running)
        return "off" if domain is None else power_of(domain)

    def power_on(self, running: Running) -> None:
        domain = self._domain(running)
        if domain is None:
            raise GiveUp("failover.not-standing", name=running.name)
        if power_of(domain) == "off":
            with mapped(vm=running.name):
                domain.create()

    def tracking(self, running: Running) -> Token | None:
        domain, intent = self._domain(running), names.intent_of(running.intent)
        if domain is None or intent is None:
            return None
        return checkpoints.token(domain, names.checkpoint(intent.rule, intent.task),
                                 read_layout(self._connection.conn, domain).vm)

    def stop(self, running: Running, grace_s: float, force: bool = True) -> None:
        domain = self._domain(running)
        if domain is None or shut_down(domain, grace_s):
            return
        if not force:
            raise Refused("replica.still-runs", name=running.name, grace_s=grace_s)
        power_off(domain, running.name)

    def discard(self, running: Running) -> None:
        intent = names.intent_of(running.intent)
        if intent is None:
            raise GiveUp("intent.invalid", intent=running.intent)
        there = Replica(self._connection, self._key, running.replica)
        domain = self._domain(running)
        if domain is not None:
            # from here on it is no failover any more: a start of the same intent, after a crash
            # of this, begins anew and does not run on half of the layers
            started.set_mark(domain, Mark(there.rule, running.number, running.intent, DISCARDED))
            fault_point("discard.after-mark")
            power_off(domain, running.name)
            fault_point("discard.after-destroy")
            keep.drop_copies(there, domain)
        self._undo(there, domain, running.name, intent)

    def keep(self, running: Running, progress: Progress) -> None:
        intent = names.intent_of(running.intent)
        domain = self._domain(running)
        if intent is None or domain is None:
            raise GiveUp("failover.not-standing", name=running.name)
        there = Replica(self._connection, self._key, running.replica)
        keep.keep(there, domain, running, self.power(running) == "off", progress)
        for volume, parsed in there.volume_names().items():
            if parsed.kind == "failover" and parsed.task == intent.task:
                there.pool.delete(volume)
        fault_point("keep.after-layers")

    def let_go(self, running: Running) -> None:
        domain = self._domain(running)
        if domain is not None:
            keep.let_go(domain, running.name)

    def _undo(self, there: Replica, domain: Any | None, name: str, intent: Intent) -> None:
        for volume, parsed in there.volume_names().items():
            if parsed.kind in _OWN and parsed.task == intent.task:
                there.pool.delete(volume)
        fault_point("discard.after-volumes")
        if domain is not None:
            undefine(domain, name)

    # --- parts ---------------------------------------------------------------------------------

    def _own_domain(self, replica: ReplicaRef, name: str, mark: Mark) -> Any | None:
        """What an earlier attempt of the same intent defined. Raises Refused ``name.taken`` and
        ``point.mismatch`` when the intent started something else."""
        for domain, found in started.marked(self._connection, mark.rule):
            if found.intent == mark.intent:
                if found.kind == DISCARDED:
                    self.discard(Running(replica, found.number, domain.name(),
                                         domain.UUIDString(), found.intent))
                    break
                if found != mark or domain.name() != name:
                    raise Refused("point.mismatch", expected=mark.tags(), found=found.tags())
                return domain
        if started.by_name(self._connection, name) is not None:
            raise Refused("name.taken", name=name)
        return None

    def _layers(self, there: Replica, point: Manifest, layers: Mapping[str, str],
                made: list[str]) -> None:
        there.pool.refresh()
        for disk in point.disks:
            name, backing = layers[disk.id], there.pool.path(disk.file)
            layer = there.pool.peek(name)
            if layer is not None and layer.backing != backing:
                # no domain was defined over it: it was made on a file that has been merged since
                there.pool.delete(name)
                layer = None
            if layer is None:
                there.pool.create(name, disk.size, "qcow2", backing)
                made.append(name)

    def _nvram(self, there: Replica, point: Manifest, name: str) -> None:
        """The machine's UEFI variables as they were at the point. Where there are none, libvirt
        copies the firmware's template."""
        if point.firmware_state is None:
            return
        content = b"".join(there.read_blob(point.firmware_state))
        there.pool.delete(name)     # of an attempt that was killed, perhaps half written
        there.pool.create(name, len(content), "raw")
        there.pool.write(name, content)

    def _uuid(self, point: Manifest, how: StartSpec, intent: Intent) -> str:
        """A failover keeps the machine's uuid (licences, cloud-init) unless the host has a machine
        of that uuid: the source, when source and target are one host."""
        return started.uuid_for(self._connection, point.vm.uuid if how.kind == "failover" else "",
                                intent)

    def _run(self, domain: Any, point: Manifest, how: StartSpec, intent: Intent) -> None:
        with mapped(vm=how.name):
            state = domain.state()[0]
            if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
                return
            if not domain.isActive():
                domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
            fault_point("standby.after-start")
            if how.kind == "failover":
                # before its first instruction, so that all that it ever writes is in the bitmap
                _checkpoint(domain, point, names.checkpoint(intent.rule, intent.task))
                fault_point("standby.after-checkpoint")
            domain.resume()

    def _domain(self, running: Running) -> Any | None:
        """The domain of ``running`` if it is there and is what it was."""
        domain = started.by_uuid(self._connection, running.ref)
        if domain is None:
            return None
        mark = started.mark_of(domain)
        return domain if mark is not None and mark.intent == running.intent else None


def _layer_name(how: StartSpec, intent: Intent, disk_id: str) -> str:
    if how.kind == "test":
        return names.test(intent, disk_id)
    return names.failover(intent.rule, disk_id, intent.task)


def _nvram_name(how: StartSpec, intent: Intent) -> str:
    if how.kind == "test":
        return names.test_nvram(intent)
    return names.failover_nvram(intent.rule, intent.task)


def _startable(lineage: Lineage, number: int) -> Manifest:
    point = lineage.point(number)
    if point is None:
        raise GiveUp("point.not-found", number=number)
    if lineage.retiring == number:
        raise Refused("point.retiring", number=number)
    return point


def _checkpoint(domain: Any, point: Manifest, name: str) -> None:
    if name in {c.getName() for c in domain.listAllCheckpoints()}:
        return
    root = ET.Element("domaincheckpoint")
    new_element(root, "name", name)
    disks = new_element(root, "disks")
    for target in disk_targets(point.vm.disks).values():
        new_element(disks, "disk", name=target, checkpoint="bitmap")
    domain.checkpointCreateXML(ET.tostring(root, encoding="unicode"), 0)
