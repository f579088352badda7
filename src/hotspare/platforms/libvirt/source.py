"""The source role: instants of machines, and what is left of them when something dies."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt

from ...domain.errors import Fenced, GiveUp, HotspareError, InstantLost, Refused, Retry
from ...domain.errors import TrackingUnusable as Untracked
from ...domain.machine import Power, VmDescription
from ...faultpoints import fault_point
from ..port import (
    Intent,
    Leftover,
    PointInTime,
    Quiesce,
    SourceCapabilities,
    Token,
)
from . import checkpoints, offline
from .cables import plug
from .connection import Connection, socket_path
from .domain_read import Layout, read_layout
from .files import delete_files
from .firmware import variables
from .freeze import AGENT_TIMEOUT_S, Helper, Outcome
from .inventory import find_machine
from .jobs import SOCKET_SUFFIX, Job, Order, Tag, end_job, find_job, refuse_busy
from .liberrors import mapped
from .point import RunningPoint, disks_of, wait_for_socket
from .power import power_of, power_off, shut_down
from .scratch import SUFFIX, ScratchWatch, directory

_NO_BITMAPS = re.compile(r"Cannot store dirty bitmaps|qcow2 v2", re.IGNORECASE)
MIN_INTERVAL_S = 10


@dataclass
class _Plan:
    """How each disk of a running machine is read."""

    incremental: dict[str, str] = field(default_factory=dict)   # disk -> the base's checkpoint
    reasons: dict[str, str] = field(default_factory=dict)       # disk -> why it is read in full


class LibvirtSource:
    """Implements :class:`~hotspare.platforms.port.Source`.

    Options of the access: ``scratch_dir`` and ``scratch_reserve`` (see :mod:`.scratch`).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._opened: dict[str, Token | None] = {}  # intents of this process -> tracking if lost
        self._helper: Helper | None = None          # waits for the next freeze

    @property
    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(tracking=True, quiesce=True, lan_free=False,
                                  min_interval_s=MIN_INTERVAL_S)

    def inspect(self, vm: str) -> VmDescription:
        return read_layout(self._connection.conn, find_machine(self._connection, vm)).vm

    def power(self, vm: str) -> Power:
        return power_of(find_machine(self._connection, vm))

    def shut_down(self, vm: str, grace_s: float, force: bool) -> None:
        domain = find_machine(self._connection, vm)
        if shut_down(domain, grace_s):
            return
        if not force:
            raise Refused("source.still-runs", vm=vm, grace_s=grace_s)
        power_off(domain, vm)

    def plug(self, vm: str, plugged: bool) -> None:
        plug(find_machine(self._connection, vm), plugged)

    def token_name(self, token: Token) -> str:
        return str(token.get("checkpoint", ""))

    def prepare(self, quiesce: Quiesce) -> None:
        if quiesce != "off":
            self._ready_helper()

    def close(self) -> None:
        """Let the helper go; twice is fine."""
        if self._helper is not None:
            self._helper.close()
            self._helper = None

    def _ready_helper(self) -> Helper:
        if self._helper is None or not self._helper.alive:
            self.close()
            self._helper = Helper(self._connection.access)
        return self._helper

    # --- opening -------------------------------------------------------------------------------

    def open_point(self, vm: str, base: Token | None, quiesce: Quiesce, intent: Intent,
                   lan_free: bool = False) -> PointInTime:
        domain = find_machine(self._connection, vm)
        with mapped(vm=vm):
            running = bool(domain.isActive())
        layout = read_layout(self._connection.conn, domain)
        found = self._own_instant(domain, layout, base, intent)
        if found is not None:
            return found
        if layout.vm.power == "off":
            point = self._open_offline(domain, layout, base, intent)
        else:
            helper = self._ready_helper() if running and quiesce != "off" else None
            point = self._open_running(domain, layout, base, intent, quiesce, helper)
        self._opened[str(intent)] = point.token
        return point

    def _own_instant(self, domain: Any, layout: Layout, base: Token | None,
                     intent: Intent) -> PointInTime | None:
        """What an earlier attempt of this intent made. Raises InstantLost when it is gone."""
        name = str(intent)
        if layout.vm.power == "off":
            if name in offline.helpers(self._connection.conn, intent.rule):
                point = offline.find(self._connection, intent, layout.vm, base,
                                     self._firmware_state(layout))
                if point is not None:
                    self._opened[name] = point.token
                    return point
        else:
            job = find_job(domain)
            if job is not None and job.intent == name:
                return self._adopt(domain, layout, base, intent, job)
            if job is not None:
                self._end_older(domain, job, intent)
        if checkpoints.exists(domain, name):
            # a killed QEMU took the bitmaps with it; of a machine that is off that is seen later
            good = layout.vm.power == "off" or checkpoints.sound(domain, name)
            raise InstantLost("source.job-gone",
                              checkpoints.token(domain, name, layout.vm) if good else None,
                              vm=layout.vm.name)
        if name in self._opened:
            raise InstantLost("source.job-gone", None, vm=layout.vm.name)
        return None

    @staticmethod
    def _end_older(domain: Any, job: Job, intent: Intent) -> None:
        """End the job of an earlier instant of the same rule, which its process left."""
        other = Intent.of_name(job.intent)
        if other is None or other.rule != intent.rule:
            return          # another rule's or another tool's: whoever begins says that it is busy
        if other.epoch > intent.epoch:
            raise Fenced("rule.fenced", rule=intent.rule, found=other.epoch,
                         epoch=intent.epoch)
        if other.age < intent.age:
            end_job(domain, job.intent)

    def _adopt(self, domain: Any, layout: Layout, base: Token | None, intent: Intent,
               job: Job) -> RunningPoint:
        try:
            tag = Tag.of_export(job.disks[0].export)
        except (ValueError, IndexError) as error:
            raise GiveUp("source.foreign-job", job=job.intent) from error
        checkpoint = self.token_name(base) if base else None
        if any(d.incremental not in (None, checkpoint) for d in job.disks):
            # its changes count from another base than the caller has
            end_job(domain, job.intent)
            raise InstantLost("source.other-base",
                              checkpoints.token(domain, job.intent, layout.vm),
                              vm=layout.vm.name)
        reasons = {d.id: checkpoints.untold(d, base) or "tracking.broken" for d in layout.vm.disks}
        return self._point(domain, layout, intent, job, Outcome(tag, 0.0), reasons, True)

    def _open_offline(self, domain: Any, layout: Layout, base: Token | None,
                      intent: Intent) -> PointInTime:
        unknown = {d.id: r for d in layout.vm.disks if (r := checkpoints.untold(d, base))}
        if base is None:            # only a QEMU that runs can begin to track
            unknown = {d: "tracking.never-ran" if r == "first-copy" else r
                       for d, r in unknown.items()}
        else:
            # libvirt's record is not needed to read, but to have the token good for the next run
            with contextlib.suppress(HotspareError):
                checkpoints.restore(domain, base)
        return offline.open_helper(self._connection, intent, layout, base, unknown,
                                   self._firmware_state(layout))

    def _open_running(self, domain: Any, layout: Layout, base: Token | None, intent: Intent,
                      quiesce: Quiesce, helper: Helper | None) -> RunningPoint:
        vm = layout.vm
        plan = self._plan(domain, layout, base)
        scratch = {d.id: f"{directory(self._connection, d)}/{intent}.{d.id}{SUFFIX}"
                   for d in vm.disks}
        watch = ScratchWatch(self._connection, [str(Path(p).parent) for p in scratch.values()])
        watch.require()
        order = Order(vm=vm.ref, intent=str(intent),
                      socket=socket_path(self._connection.socket_dir, f"{intent}{SOCKET_SUFFIX}"),
                      scratch=scratch, incremental=plan.incremental,
                      tracked=[d.id for d in vm.disks if d.tracking])
        fault_point("source.before-begin")
        while True:
            try:
                outcome = self._begin(domain, layout, order, quiesce, helper)
                break
            except Untracked as error:
                self._distrust(plan, str(error.fields.get("disk", "")))
            except GiveUp as error:
                if not (order.tracked and _NO_BITMAPS.search(str(error.fields.get("reason")))):
                    raise
                # images of the format's version 2 (before QEMU 1.7) have no place for bitmaps;
                # which disk it is, QEMU does not say
                order.tracked.clear()
                order.incremental.clear()
                plan.reasons.update({d.id: "tracking.old-format" for d in vm.disks if d.tracking})
            except HotspareError:
                self._clean_failed(domain, order)
                raise
        fault_point("source.after-begin")
        job = wait_for_socket(domain, str(intent))
        if not outcome.thawed:
            end_job(domain, str(intent))
            raise GiveUp("quiesce.thaw-failed", vm=vm.name)
        if base is not None and not plan.incremental:
            self._drop_useless(domain, base)
        return self._point(domain, layout, intent, job, outcome, plan.reasons, False, watch)

    def _point(self, domain: Any, layout: Layout, intent: Intent, job: Job, outcome: Outcome,
               reasons: Mapping[str, str], adopted: bool,
               watch: ScratchWatch | None = None) -> RunningPoint:
        vm = layout.vm
        if {d.disk for d in job.disks} != {d.id for d in vm.disks}:
            end_job(domain, job.intent)
            raise InstantLost("source.disks-changed", None, vm=vm.name)
        if watch is None:
            watch = ScratchWatch(self._connection, [str(Path(d.scratch).parent)
                                                    for d in job.disks])
        point = RunningPoint(
            connection=self._connection, intent=intent, vm=vm, tag=outcome.tag,
            stall_ms=outcome.stall_ms, token=checkpoints.token(domain, str(intent), vm),
            disks=disks_of(self._connection, job, vm, reasons),
            firmware_state=self._firmware_state(layout), scratch=watch, adopted=adopted)
        self._opened[str(intent)] = point.token
        return point

    # --- tracking ------------------------------------------------------------------------------

    @staticmethod
    def _plan(domain: Any, layout: Layout, base: Token | None) -> _Plan:
        plan = _Plan()
        known = base is not None and checkpoints.restore(domain, base)
        for disk in layout.vm.disks:
            reason = checkpoints.untold(disk, base) or ("" if known else "tracking.checkpoint-lost")
            if reason or base is None:
                plan.reasons[disk.id] = reason or "first-copy"
            else:
                plan.incremental[disk.id] = str(base["checkpoint"])
        return plan

    @staticmethod
    def _distrust(plan: _Plan, disk: str) -> None:
        """A bitmap turned out to be missing or broken: read that disk in full, or all of them when
        it is not said which. Changes the order too, which shares the plan's dict."""
        for name in [disk] if disk in plan.incremental else list(plan.incremental):
            del plan.incremental[name]
            plan.reasons[name] = "tracking.broken"

    @staticmethod
    def _drop_useless(domain: Any, base: Token) -> None:
        """Delete a base that no disk can use any more. Not worth failing for: commit tries
        again."""
        name = str(base.get("checkpoint", ""))
        if Intent.of_name(name) is not None:
            with contextlib.suppress(HotspareError):
                checkpoints.delete(domain, name)

    # --- begin ---------------------------------------------------------------------------------

    def _begin(self, domain: Any, layout: Layout, order: Order, quiesce: Quiesce,
               helper: Helper | None) -> Outcome:
        note = ""
        if helper is not None:
            note = "" if layout.vm.agent else "quiesce.no-agent"
            if layout.vm.power == "paused":
                note = "quiesce.paused"     # its agent cannot answer, nor can anything write
            if not note:
                return self._begin_frozen(domain, order, quiesce == "require", helper)
            if quiesce == "require":
                raise Refused("quiesce.failed", vm=layout.vm.name, note=note)
        refuse_busy(domain)
        tag = Tag(time.time(), "crash", note)
        order.begin(domain, tag)
        return Outcome(tag, 0.0)

    def _begin_frozen(self, domain: Any, order: Order, require: bool, helper: Helper) -> Outcome:
        try:
            return helper.begin(order, require)
        except Retry as error:
            if error.code == "source.helper-died":
                self.close()
                self._thaw(domain)
                end_job(domain, order.intent)
            raise

    @staticmethod
    def _clean_failed(domain: Any, order: Order) -> None:
        """A begin that failed may have left its checkpoint or, on a time-out, its job."""
        with contextlib.suppress(HotspareError):
            end_job(domain, order.intent)
            checkpoints.delete(domain, order.intent)

    @staticmethod
    def _thaw(domain: Any) -> int:
        """Thaw; how many file systems were frozen. 0 when nobody answers."""
        with contextlib.suppress(libvirt.libvirtError):
            domain.agentSetResponseTimeout(AGENT_TIMEOUT_S, 0)
            try:
                return int(domain.fsThaw(None, 0))
            finally:
                domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
        return 0

    def _firmware_state(self, layout: Layout) -> bytes | None:
        if layout.vm.firmware == "bios":
            return None
        return variables(self._connection.conn, layout.root, running=layout.vm.power != "off")

    # --- sweep ---------------------------------------------------------------------------------

    def sweep(self, vm: str, rule: str, keep: Collection[str],
              bases: Collection[str] = ()) -> list[Leftover]:
        found = self._sweep_helpers(rule, keep)
        try:
            domain = find_machine(self._connection, vm)
        except GiveUp as error:
            if error.code == "vm.not-found":
                return found
            raise
        with mapped(vm=vm):
            active = bool(domain.isActive())
        if active:
            found += self._sweep_job(domain, rule, keep)
        found += self._sweep_checkpoints(domain, rule, {*keep, *bases}, active)
        found += self._sweep_files(domain, rule, keep)
        if active and self._has_agent(domain) and self._thaw(domain):
            found.append(Leftover("freeze", vm))
        return found

    def _sweep_helpers(self, rule: str, keep: Collection[str]) -> list[Leftover]:
        found = []
        for intent, helper in offline.helpers(self._connection.conn, rule).items():
            if intent not in keep:
                offline.destroy(self._connection, helper)
                offline.remove_socket(self._connection, intent)
                found.append(Leftover("domain", offline.helper_name(intent)))
        return found

    @staticmethod
    def _sweep_job(domain: Any, rule: str, keep: Collection[str]) -> list[Leftover]:
        job = find_job(domain)
        if job is None or job.intent in keep:
            return []
        intent = Intent.of_name(job.intent)
        if intent is None or intent.rule != rule:
            return []
        end_job(domain, job.intent)
        return [Leftover("job", job.intent)]

    @staticmethod
    def _sweep_checkpoints(domain: Any, rule: str, keep: Collection[str],
                           active: bool) -> list[Leftover]:
        found = []
        for name in checkpoints.own(domain, rule):
            if name in keep:
                continue
            error = ""
            try:
                if not active:
                    raise Refused("checkpoint.off", checkpoint=name)
                checkpoints.delete(domain, name)
            except HotspareError as fault:
                error = str(fault)
            found.append(Leftover("checkpoint", name, error))
        return found

    def _sweep_files(self, domain: Any, rule: str, keep: Collection[str]) -> list[Leftover]:
        """Scratch files and sockets that a QEMU left when it was killed."""
        def mine(name: str) -> bool:
            intent = Intent.of_name(name)
            return (intent is not None and intent.rule == rule and name.endswith(SUFFIX)
                    and str(intent) not in keep)

        found: list[Leftover] = []
        conn = self._connection.conn
        for path in sorted(self._scratch_dirs(domain)):
            try:
                found += delete_files(conn, path, mine, "scratch")
            except HotspareError as fault:
                if fault.action != "give_up":
                    raise
                found.append(Leftover("scratch", path, str(fault)))
        if not self._connection.remote:
            for socket in Path(self._connection.socket_dir).glob(f"hs-{rule}-*{SOCKET_SUFFIX}"):
                if socket.name.removesuffix(SOCKET_SUFFIX) not in keep:
                    with contextlib.suppress(OSError):
                        socket.unlink()
                        found.append(Leftover("socket", socket.name))
        return found

    def _scratch_dirs(self, domain: Any) -> set[str]:
        try:
            disks = read_layout(self._connection.conn, domain).vm.disks
            return {directory(self._connection, d) for d in disks}
        except (Refused, GiveUp):
            # a machine that became unfit for protection still has to be cleaned up after
            given = self._connection.access.options.get("scratch_dir")
            return {given} if given else set()

    def _has_agent(self, domain: Any) -> bool:
        try:
            return read_layout(self._connection.conn, domain).vm.agent
        except (Refused, GiveUp):
            return False
