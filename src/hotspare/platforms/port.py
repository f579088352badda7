"""The platform port: what a hypervisor must offer, by role, and nothing of any vendor.

The docstrings are the contract; ``tests/contract`` holds every driver to it. The shape was held
against two platforms before it was fixed:

============== ======================================= =====================================
role           libvirt                                 vSphere
============== ======================================= =====================================
instant        checkpoint + pull backup job            snapshot
tracking token checkpoint name and disk identities     changeId per disk
export         NBD socket of QEMU (over ssh if remote) nbdkit vddk process, started on open
session        overlay files behind a receiver domain  the replica's current disks
point          overlay chain + lineage disk            snapshot + description + file beside VM
retire         block commit in a receiver              RemoveSnapshot
standby        overlay on a point, domain rebuilt      RevertToSnapshot, or a linked clone
rehearsal      the same, on networks of its own        linked clone, on a switch of its own
write-back     source's files in a receiver, undo disk source's disks over VDDK, a snapshot
============== ======================================= =====================================

Rules for all drivers: a driver never retries, throttles or logs by itself (wrappers do); every
call is idempotent for the same :class:`Intent`; errors are those of
:mod:`hotspare.domain.errors`. All calls block and may come from any thread, but one object is used
by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ..domain.extents import Extent
from ..domain.lineage import Consistency, Lineage, Manifest
from ..domain.machine import DiskSpec, Power, VmDescription

Token = dict[str, Any]
"""Opaque, JSON-ready tracking state of a source: the base that a later run's changes count from."""

Quiesce = Literal["off", "try", "require"]
Progress = Callable[[int, int], None]
"""Called with (done, total) in the work's own unit; may raise ``Stopped`` to cancel."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Who acts, and for what: names everything that is made, so that it is found after a crash.

    ``instant`` counts the instants that one task opens: a task whose instant was lost opens the
    next one. The string form is the prefix of the names of all checkpoints, snapshots, files and
    domains that are made for it. Names are never reused.
    """

    rule: str                       # 8 lower-case hex digits
    epoch: int
    task: int
    instant: int = 1

    def __str__(self) -> str:
        return f"hs-{self.rule}-e{self.epoch}-t{self.task}-i{self.instant}"


@dataclass(frozen=True, slots=True)
class PlatformAccess:
    """How to reach one platform. ``secret`` is kept in memory only and never logged."""

    id: str
    kind: str                       # libvirt, vsphere
    uri: str
    options: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)


# --- data path ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NbdEndpoint:
    """Where an NBD server listens just now, on this machine."""

    uri: str                        # nbd+unix:///EXPORT?socket=PATH
    request_max: int = 2 * 1024 * 1024   # bytes of the largest request that the transport wants
    connections: int = 4            # connections that may be open at once


class Export(Protocol):
    """One disk to read or write over NBD."""

    def open(self) -> AbstractContextManager[NbdEndpoint]:
        """Make the endpoint reachable; leaving the context takes down what this made (an nbdkit,
        an ssh forward). May be entered again after a connection broke. Raises Reconnect or
        GiveUp."""
        ...


@dataclass(frozen=True, slots=True)
class DirtyContext:
    """Changes are read over the export itself: block status of this NBD metadata context, where
    ``mask`` set in the flags means changed."""

    context: str
    mask: int = 1


@dataclass(frozen=True, slots=True)
class ChangedAreas:
    """Changes are listed by the platform's own call: sorted, disjoint, inside the disk."""

    areas: Iterable[Extent]


@dataclass(frozen=True, slots=True)
class Unknown:
    """No tracking for this disk in this run: everything allocated may have changed. With an older
    point at the target the data plane compares by digest. ``reason`` is a stable code."""

    reason: str


Changes = DirtyContext | ChangedAreas | Unknown


class PointDisk(Protocol):
    """One disk of an open instant."""

    @property
    def spec(self) -> DiskSpec: ...

    @property
    def export(self) -> Export: ...

    @property
    def changes(self) -> Changes:
        """What may differ from the base that :meth:`Source.open_point` was given."""
        ...


class PointInTime(Protocol):
    """A consistent instant of a machine, held open for reading."""

    @property
    def vm(self) -> VmDescription:
        """The machine as it was configured at the instant."""
        ...

    @property
    def taken_at(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def consistency(self) -> Consistency: ...

    @property
    def note(self) -> str:
        """Why the consistency is less than asked for, or empty."""
        ...

    @property
    def stall_ms(self) -> float:
        """How long the guest's file systems stood still (0 when not quiesced)."""
        ...

    @property
    def token(self) -> Token | None:
        """The base of the next run once this instant's point is published; None: no tracking."""
        ...

    @property
    def disks(self) -> Sequence[PointDisk]: ...

    @property
    def firmware_state(self) -> bytes | None:
        """UEFI variables as they are, or None."""
        ...

    def healthy(self) -> None:
        """Raise when the instant is gone or must be let go (InstantLost: scratch nearly full, job
        ended, guest's QEMU gone). Cheap; called every second during a transfer."""
        ...

    def commit(self) -> None:
        """The target has the point: end the job or snapshot, drop every older base of this rule.
        Idempotent. The instant is closed afterwards."""
        ...

    def release(self) -> None:
        """Let the instant go but keep its tracking for a next pass. Idempotent."""
        ...


# --- source ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceCapabilities:
    tracking: bool
    quiesce: bool
    lan_free: bool
    min_interval_s: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something of ours that a sweep removed (or could not: then ``error`` says why)."""

    kind: str                       # checkpoint, job, scratch, snapshot, domain, volume
    name: str
    error: str = ""


class Source(Protocol):
    @property
    def capabilities(self) -> SourceCapabilities: ...

    def inspect(self, vm: str) -> VmDescription:
        """The machine by its lasting id or its name, allow-listed and typed.

        Raises Refused with a code for what cannot be protected (transient, shareable or
        passed-through disks, independent disks, …) and GiveUp ``vm.not-found``."""
        ...

    def power(self, vm: str) -> Power:
        """Whether the machine runs. Cheap. Raises as :meth:`inspect`."""
        ...

    def shut_down(self, vm: str, grace_s: float, force: bool) -> None:
        """Off, through the guest; after ``grace_s`` seconds without it only if ``force``, else
        Refused ``source.still-runs``. Idempotent."""
        ...

    def plug(self, vm: str, plugged: bool) -> None:
        """Put all of its network cables in, or take them out, whether it runs or not.
        Idempotent."""
        ...

    def prepare(self, quiesce: Quiesce) -> None:
        """An instant will be opened soon: start what takes time. Touches no machine."""
        ...

    def open_point(self, vm: str, base: Token | None, quiesce: Quiesce,
                   intent: Intent) -> PointInTime:
        """Make a consistent instant of all disks and return with the guest running.

        ``base`` is the token of the last published point (or of a lost instant), None for a
        full copy. The same intent finds its own instant again after a crash of this process, or
        raises InstantLost. A base that cannot be trusted for some disk gives that disk Unknown
        changes, never an error. A machine that is off is read without starting it.
        Raises Retry when another tool's job is in the way, Refused ``quiesce.failed`` when
        quiescing is required and fails (the guest is thawed in any case)."""
        ...

    def sweep(self, vm: str, rule: str, keep: Collection[str],
              bases: Collection[str] = ()) -> list[Leftover]:
        """Remove every job, checkpoint, snapshot and scratch file named for ``rule`` (hs-RULE-…)
        and thaw what we froze. Never touches anything else.

        ``keep`` names intents whose instants may be opened again: all of theirs stays. ``bases``
        names tokens (:meth:`token_name`) that a next run counts its changes from: their tracking
        stays, an instant of theirs that is still open is closed."""
        ...

    def token_name(self, token: Token) -> str:
        """The intent name that a token belongs to, for ``keep``."""
        ...


# --- target ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TargetCapabilities:
    writes_need_power_off: bool
    test_during_write: bool
    max_points: int
    test_boot: Literal["overlay", "linked-clone", "none"]


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """What a rule wants at its target."""

    rule: str
    name: str                       # name that the replica gets when it runs
    storage: str                    # storage pool or datastore
    host: str = ""                  # target host; empty where the connection is one host
    datacenter: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)  # source network -> target network


@dataclass(frozen=True, slots=True)
class ReplicaRef:
    """A replica at a target; plain data, kept in tasks and in the catalogue."""

    rule: str
    storage: str
    place: str = ""                 # the driver's own id (vSphere: moref of the replica)


class Session(Protocol):
    """The one unpublished state of a replica."""

    @property
    def number(self) -> int:
        """The number that the point will have."""
        ...

    @property
    def disks(self) -> Mapping[str, Export]:
        """Writable exports by disk id. A flush on one is durable."""
        ...

    @property
    def resumed(self) -> bool:
        """True when an earlier attempt's unpublished data of the same intent is still there."""
        ...

    def publish(self, manifest: Manifest, digests: Path,
                firmware_state: bytes | None) -> Manifest:
        """The commit point. Flush all disks, store the digest table (a local file) and the
        firmware state durably beside them, then write the lineage with the manifest, durably, and
        seal the disks against change. Fills in file and blob names and returns the manifest as
        written. Raises Fenced when the target's epoch is higher. Idempotent: publishing the same
        number again returns what is there."""
        ...

    def abandon(self) -> None:
        """Drop the unpublished state with all that was made for it. Idempotent."""
        ...

    def close(self) -> None:
        """Leave, keeping the unpublished state for a resume. Idempotent."""
        ...


class Target(Protocol):
    @property
    def capabilities(self) -> TargetCapabilities: ...

    def ensure_replica(self, spec: ReplicaSpec, vm: VmDescription, intent: Intent) -> ReplicaRef:
        """Check that the target can run ``vm`` (architecture, machine type, CPU, firmware, name
        and storage space) and make what holds its points. Refused with the reason otherwise;
        nothing half-made is left."""
        ...

    def lineage(self, replica: ReplicaRef) -> Lineage:
        """The truth, read from the target. An empty lineage (no points) when there is none yet.
        Raises ForeignChange when it fails its authentication."""
        ...

    def fence(self, replica: ReplicaRef, epoch: int) -> None:
        """After it returns nobody of a lower epoch can write or publish. Ends what our own
        earlier process left open (receivers), not what this one reads. Idempotent. Raises Fenced
        when the target already has a higher epoch."""
        ...

    def begin(self, replica: ReplicaRef, disks: Sequence[DiskSpec], base: int | None,
              intent: Intent, sealed: bool = True) -> Session:
        """Open the unpublished state on top of point ``base`` (None: from nothing). A disk that
        the base lacks starts empty; a grown one is grown. Continues the same task's earlier
        unpublished state if it is there. Raises ForeignChange when the base was written since
        its point, SealMissing when that cannot be told; not when ``sealed`` is False: what is wrong
        in the base is then written anew."""
        ...

    def seal(self, replica: ReplicaRef, number: int) -> None:
        """Seal the head anew, after its content was verified."""
        ...

    def read_point(self, replica: ReplicaRef,
                   number: int) -> AbstractContextManager[Mapping[str, Export]]:
        """Read-only exports of a published point's disks, by disk id. A merge or a new seal takes
        them away (Reconnect ``receiver.gone``); Retry ``replica.busy`` while one runs."""
        ...

    def read_blob(self, replica: ReplicaRef, blob: str) -> Iterator[bytes]:
        """The content of a blob of a manifest, in pieces. Raises ForeignChange when its checksum
        does not fit."""
        ...

    def pinned(self, replica: ReplicaRef) -> set[int]:
        """Points that something stands on (a failover, a test, a foreign overlay), read from the
        target itself, also when that something is shut off; and those that this process reads."""
        ...

    def retire(self, replica: ReplicaRef, number: int, folded: Path | None,
               progress: Progress) -> Lineage:
        """Fold point ``number`` into its successor: long, resumable, rerun after any crash. No
        other point's content changes. ``folded`` replaces the successor's digest tables; None
        keeps both tables, older first. Raises Refused ``point.pinned``. Returns the new
        lineage."""
        ...

    def sweep(self, replica: ReplicaRef, keep: Collection[str]) -> list[Leftover]:
        """Remove what carries our rule, has no manifest, and whose intent name is not in
        ``keep``."""
        ...

    def remove_replica(self, replica: ReplicaRef) -> list[Leftover]:
        """Delete the replica with all its points. Refused while something stands on it."""
        ...


# --- standby -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartSpec:
    """How a replica is started."""

    name: str
    networks: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["failover", "test"] = "failover"
    connect_network: bool = True


@dataclass(frozen=True, slots=True)
class Running:
    """A started replica; plain data."""

    replica: ReplicaRef
    number: int                     # the point that it stands on
    name: str
    ref: str                        # the platform's lasting id of the started machine
    intent: str                     # name of the intent that made it


class Standby(Protocol):
    """A replica that runs."""

    def start(self, replica: ReplicaRef, number: int, how: StartSpec,
              intent: Intent) -> Running:
        """Put a layer for its own writes on point ``number`` and power it on; returns when it
        runs. The same intent finds what it made earlier. Refuses a retiring point and a taken
        name."""
        ...

    def find(self, replica: ReplicaRef) -> Running | None:
        """The failover that stands at the target, running, shut off or half discarded, read from
        the target."""
        ...

    def power(self, running: Running) -> Power: ...

    def power_on(self, running: Running) -> None:
        """Run again, after :meth:`stop` or when its host went down. Idempotent. Raises GiveUp
        ``failover.not-standing``."""
        ...

    def stop(self, running: Running, grace_s: float, force: bool = True) -> None:
        """Off, through the guest; after ``grace_s`` seconds without it only if ``force``, else
        Refused ``replica.still-runs``. Idempotent."""
        ...

    def tracking(self, running: Running) -> Token | None:
        """The base that everything counts from which the replica wrote since it was started, for
        :meth:`Source.open_point` of ``running.ref`` at this platform. It lasts as long as the
        failover. None: there is no such tracking (any more)."""
        ...

    def discard(self, running: Running) -> None:
        """Power off, throw its own writes away, remove its definition. Idempotent. Not for a
        test: :meth:`Rehearsal.clear`."""
        ...

    def keep(self, running: Running, progress: Progress) -> None:
        """Make it a machine of its own, while it runs (or stays off): afterwards nothing of the
        replica lies below its disks, and no point is pinned by it. Until then it can still be
        discarded. ``progress`` counts bytes of its disks. Long, idempotent, and continued by
        another call after a crash. Raises OutOfSpace."""
        ...

    def let_go(self, running: Running) -> None:
        """Take what marks the machine as ours out of its definition. Idempotent; it is not found
        any more afterwards."""
        ...


# --- rehearsal ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Isolation:
    """What keeps the copy of a test apart from all other machines; plain data."""

    networks: Mapping[str, str]     # for StartSpec: by the networks of the point's machine
    connected: bool                 # False: the platform has no such network, the cables are out
    reason: str = ""                # why it is less than was asked for
    address: str = ""               # of the host in the network, where it has one


@dataclass(frozen=True, slots=True)
class Screen:
    """What a machine shows just now."""

    png: bytes
    blank: bool                     # one colour, or a text screen without text
    text: str | None                # None: it is graphical


class Rehearsal(Protocol):
    """What a test needs beside :meth:`Standby.start` with the kind ``test``: the copy of a restore
    point meets nobody, is looked at, and leaves nothing. It may stand beside a failover and
    beside the session of a next point; a point that it stands on is pinned."""

    def isolate(self, replica: ReplicaRef, number: int, reach: str | None,
                intent: Intent) -> Isolation:
        """Make networks for the copy of point ``number`` that nothing else is on, one for each
        that the machine had. With ``reach`` the host has an address in the first of them:
        ``dhcp`` in one of our own choice, which the copy gets an address of, or
        ``ADDRESS/PREFIX`` beside that one, which the copy has by itself. What the same intent
        made before is made anew: called before the copy is started."""
        ...

    def screen(self, running: Running) -> Screen | None:
        """None: the machine has no screen, or does not run."""
        ...

    def heartbeat(self, running: Running) -> bool | None:
        """Whether the guest's agent answers within a second. None: it has no agent's channel."""
        ...

    def addresses(self, running: Running) -> Sequence[str]:
        """IPv4 addresses that the copy took in its isolated networks."""
        ...

    def ended(self, running: Running) -> str:
        """How the machine went off: ``shut-down``, ``crashed``, ``other`` (not by itself), or
        empty while it runs."""
        ...

    def left(self, replica: ReplicaRef) -> Sequence[Intent]:
        """The intents of all tests of which something is at the target, one that runs with
        them."""
        ...

    def clear(self, replica: ReplicaRef, intent: Intent) -> list[Leftover]:
        """Power off, and remove all that was made for the test. Idempotent."""
        ...


# --- write-back --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PreservedDisk:
    """What a failback has kept of one disk, so that it can be undone."""

    export: Export                  # as large as the disk was, only to be read
    holds: Changes                  # where it holds what was there, read over ``export``
    size: int                       # bytes that the disk had before this failback


class WriteBackSession(Protocol):
    """The disks of a source machine that is off, open to be overwritten in place.

    Whatever is overwritten is preserved first. Errors of a session that died are Reconnect: the
    caller opens it anew."""

    @property
    def vm(self) -> VmDescription:
        """The machine as it is configured now."""
        ...

    @property
    def disks(self) -> Mapping[str, Export]:
        """Writable exports by disk id. A flush on one is durable."""
        ...

    @property
    def untouched(self) -> bool:
        """Nobody has written to any disk since the last session of this failback was closed
        sealed. False also when that cannot be told."""
        ...

    def changes(self, disk: str) -> Changes:
        """What was written since the ``base`` of :meth:`WriteBack.open` and until this session
        was opened, read over ``disks[disk]``."""
        ...

    def resize(self, disk: str, size: int) -> None:
        """Grow the disk to ``size`` bytes, its new tail reading as zero, or shrink it again to no
        less than it had before this failback. Ends connections to its export. Idempotent. Raises
        Refused ``disk.not-smaller``, or ``disk.resize`` where the storage cannot."""
        ...

    def preserve(self, disk: str, extents: Iterable[Extent], progress: Progress) -> int:
        """Keep what these extents (sorted, in whole blocks) hold now, but for what is kept
        already and for what lies beyond the disk's former end. Returns the bytes that were
        copied, and only when they are durable: then, and not before, the extents may be
        overwritten. Idempotent, also when it was killed. ``progress`` counts the bytes of the
        disk that have been passed. Raises OutOfSpace."""
        ...

    def preserved(self, disk: str) -> PreservedDisk | None:
        """What was kept of a disk, until the next :meth:`preserve` of it. None: nothing was."""
        ...

    def preserve_firmware(self) -> None:
        """Keep the UEFI variables as they are, unless this failback has kept them already.
        Durable on return. Nothing for a machine that has none."""
        ...

    def write_firmware_state(self, state: bytes) -> None:
        """Replace the UEFI variables, after :meth:`preserve_firmware`. Durable on return. Raises
        Refused ``firmware.size`` when the machine's firmware has no place for them."""
        ...

    def restore_firmware_state(self) -> None:
        """Put the kept UEFI variables back; nothing when none were kept. Idempotent."""
        ...

    def close(self, sealed: bool) -> None:
        """Let the disks go; what is preserved stays. ``sealed``: leave what :attr:`untouched`
        needs, not to be used when the machine is started next. Idempotent."""
        ...


class WriteBack(Protocol):
    """A source machine that takes back what its replica became.

    ``origin`` is the first intent of a failback. It names what the failback keeps, through all
    its sessions, until :meth:`clear`."""

    def open(self, vm: str, base: Token | None, origin: Intent,
             epoch: int) -> WriteBackSession:
        """Open the disks for writing. The machine cannot be started meanwhile.

        Ends what an earlier process of the rule left open. Raises Fenced when a higher epoch was
        here, Refused ``source.runs`` when the machine is not off, ``source.saved`` when its
        memory is saved (it would not fit its disks any more), or with the reason why a disk
        cannot be written; Retry ``source.disk-busy`` when somebody else has a disk open,
        ForeignChange ``undo.missing`` when what was preserved of a disk is gone."""
        ...

    def power_on(self, vm: str, intent: Intent) -> Token | None:
        """Start the machine, with tracking begun before its first instruction. Returns the token
        that all that it writes from then on counts from; None when nothing can be tracked (no
        disk can, or somebody else started it). Idempotent for the same intent. Raises Refused
        ``source.saved``."""
        ...

    def build(self, vm: VmDescription, name: str, storage: str, networks: Mapping[str, str],
              intent: Intent) -> str:
        """Make a machine like ``vm``, off and with empty disks in ``storage``, for a failback to a
        new place; returns its lasting id. ``networks`` maps those of ``vm`` to this platform's. It
        keeps its uuid unless that is taken here. The same intent finds what it made. Refused with
        the reason when it cannot run here, ``name.taken``; nothing half-made is left."""
        ...

    def let_go(self, vm: str, intent: Intent) -> None:
        """Take what marks a machine as built for ``intent`` off it: from now on it is its
        owner's, and not demolished any more. Idempotent."""
        ...

    def demolish(self, vm: str, intent: Intent) -> list[Leftover]:
        """Remove a machine that ``intent`` built and that was not let go, with its disks, also
        while it runs. After :meth:`clear`. Idempotent."""
        ...

    def undo_exists(self, vm: str, origin: Intent) -> bool:
        """Whether anything is left that :meth:`clear` would remove of what this failback keeps."""
        ...

    def clear(self, vm: str, origin: Intent) -> list[Leftover]:
        """Drop all that this failback keeps: after it there is no way back. Idempotent, with the
        machine running or off, or gone."""
        ...


# --- inventory ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``code`` names the fault when not ok, ``fields`` are its."""

    name: str
    ok: bool
    detail: str = ""
    code: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    ok: bool
    product: str                    # "QEMU 7.2.0, libvirt 9.0.0"
    host_id: str                    # lasting identity of the host
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A node of datacenter > host > storage/network/…"""

    kind: Literal["datacenter", "host", "storage", "network"]
    name: str
    parent: str = ""
    free: int | None = None         # bytes
    capacity: int | None = None     # bytes
    usable: bool = True
    reason: str = ""                # code: why not usable
    fields: dict[str, Any] = field(default_factory=dict)    # of the reason


@dataclass(frozen=True, slots=True)
class VmSummary:
    ref: str
    name: str
    power: Literal["running", "paused", "off"]
    size: int                       # bytes of all disks
    protectable: bool = True
    reason: str = ""                # code of the refusal
    fields: dict[str, Any] = field(default_factory=dict)    # and its fields


class Inventory(Protocol):
    def check(self) -> ConnectionReport: ...

    def places(self) -> Iterator[Place]: ...

    def vms(self) -> Iterator[VmSummary]:
        """All machines, without those that are ours (receivers, helpers)."""
        ...

    def powers(self) -> Mapping[str, Power]:
        """By lasting id, what each of those machines is. Cheap, whatever their number."""
        ...

    def replicas(self) -> Iterator[ReplicaRef]:
        """All replicas that lie here, told by the names of what holds their lineage: of any
        Hotspare, and not authenticated. Storage that :meth:`places` calls not usable is left
        out."""
        ...


class Platform(Protocol):
    """One connection to one hypervisor or manager, in all its roles."""

    @property
    def inventory(self) -> Inventory: ...

    @property
    def source(self) -> Source: ...

    def target(self, key: bytes) -> Target:
        """``key`` (32 bytes, the rule's own) authenticates the lineage."""
        ...

    def standby(self, key: bytes) -> Standby: ...

    def rehearsal(self, key: bytes) -> Rehearsal: ...

    @property
    def write_back(self) -> WriteBack: ...

    def close(self) -> None: ...


Connect = Callable[[PlatformAccess], Platform]
