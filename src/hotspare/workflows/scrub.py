"""Scrub: restore points are read again at the target and compared with their digests.

A side task: it looks at published points beside whatever else the rule does, gives way to what
wants to write to the files that it reads (a merge, a new seal), and goes on where it was. Of
several points the newest is read as a whole, and of each older one what its successor has
overwritten: so every block that lies at the target is read once. What is wrong is then looked up
in each point, since others may read through the same blocks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..dataplane.control import Control, TransferProgress
from ..dataplane.digests import digest_key
from ..dataplane.files import replacing
from ..dataplane.throttle import RateMeter
from ..dataplane.verify import VerifyResult, verify_disk
from ..domain.codec import decode, encode
from ..domain.damage import Damage, damage_of, extents_of, size_of, united
from ..domain.errors import GiveUp, Reconnect, Refused, Retry
from ..domain.extents import Extent, union
from ..domain.lineage import DiskPoint, Lineage, Manifest
from ..faultpoints import fault_point
from ..platforms.port import Export, NbdEndpoint
from . import held, temp_dir
from .bench import Bench
from .failover import replica_of
from .link import Scrubbed
from .steps import Json, Step, Workflow

_STRETCH = 4 << 30
"""Bytes of a disk between two notes of the position: what a process that is killed reads again."""
_PIECES = 4096                  # extents of a stretch
_BUSY_S = 2.0
_PATIENCE_S = 6 * 3600.0
"""Seconds that a scrub waits for a merge. One ends, whatever it takes; a foreign lock may not."""


@dataclass(frozen=True, slots=True)
class _Position:
    """How far the reading is, and what it found. Kept in the scrub's folder."""

    done: tuple[str, ...] = ()      # "NUMBER DISK" of what was read to its end
    offset: int = 0                 # bytes of the disk that follows
    wrong: dict[str, Any] = field(default_factory=dict)    # Damage of all points together
    gone: tuple[int, ...] = ()      # points that were merged meanwhile
    unreadable: tuple[int, ...] = ()
    read: int = 0                   # bytes


# --- steps -------------------------------------------------------------------------------------


def _choose(bench: Bench, context: Json) -> None:
    """Which points, newest first: fixed now, newer ones are another scrub's."""
    usable = {p.number: p for p in _lineage(bench).usable}
    if bench.task.arguments.get("all"):
        numbers = sorted(usable, reverse=True)
    else:
        numbers = [bench.task.point or max(usable, default=0)]
    if not numbers or not usable.keys() >= set(numbers):
        raise Refused("point.not-usable", point=bench.task.point, rule=bench.rule.name)
    temp_dir.prepare(bench.temp_dir, bench.folder.name,
                     [disk.size for disk in usable[numbers[0]].disks])
    _folder(bench).mkdir(mode=0o700, exist_ok=True)
    context["points"] = numbers


def _read(bench: Bench, context: Json) -> None:
    """Read and compare; the position is kept, so that a process that follows goes on from it."""
    _folder(bench).mkdir(mode=0o700, exist_ok=True)
    position = _load(bench)
    numbers: list[int] = context["points"]
    meter = _Meter(bench, position.read, sum(_expected_bytes(bench, numbers)))
    for number in numbers:
        if number in position.gone or number in position.unreadable:
            continue
        manifest = _usable(bench, number)
        for disk in manifest.disks if manifest is not None else ():
            if f"{number} {disk.id}" not in position.done:
                position = _read_disk(bench, position, number, disk, number == numbers[0], meter)
        if _usable(bench, number) is None and number not in position.gone:
            bench.say("scrub.point-gone", point=number)
            position = _save(bench, replace(position, gone=(*position.gone, number)))
    bench.figures["bytes_read"] = position.read
    bench.figures["points"] = len(numbers) - len(position.gone)
    context["wrong"] = position.wrong
    context["read"] = [n for n in numbers if n not in position.gone]
    context["unreadable"] = list(position.unreadable)
    context["detail"] = {"bytes": position.read}
    if len(position.gone) == len(numbers):
        context["warnings"] = True      # nothing was proven


def _read_disk(bench: Bench, position: _Position, number: int, disk: DiskPoint, whole: bool,
               meter: _Meter) -> _Position:
    manifest = _usable(bench, number)
    if manifest is None:
        return position
    with ExitStack() as stack:
        extents: Iterable[Extent] = (Extent(0, disk.size),)
        if not whole:
            extents = _overwritten(bench, number, disk, stack)
        expected = stack.enter_context(held.layers(
            bench, _folder(bench), manifest, disk.id, disk.size))
        reader = stack.enter_context(_Reader(bench, number))
        for stretch in _stretches(extents, position.offset):
            try:
                found = _verify(bench, reader.export(disk.id), expected, disk.id, stretch, meter)
            except GiveUp as error:
                if error.code == "point.not-found":     # merged: noted by the caller
                    return _save(bench, replace(position, offset=0))
                if error.code != "point.unreadable":
                    raise
                bench.say("scrub.unreadable", "error", point=number, reason=error.fields["reason"])
                return _save(bench, replace(
                    position, offset=0, unreadable=(*position.unreadable, number)))
            position = _save(bench, replace(
                position, offset=stretch[-1].end, read=position.read + found.bytes_read,
                wrong=dict(united(position.wrong, damage_of({disk.id: found.mismatches})))))
            meter.next(position.read)
            fault_point("scrub.after-stretch")
    return _save(bench, replace(position, offset=0, done=(*position.done, f"{number} {disk.id}")))


def _judge(bench: Bench, context: Json) -> None:
    """What is wrong, point by point: each is asked for the blocks that were found wrong in any."""
    found: list[Scrubbed] = []
    lineage = _lineage(bench)
    wrong: Damage = context["wrong"]
    for manifest in reversed(lineage.usable):
        damage: Damage = {}
        if manifest.number in context["unreadable"]:
            damage = damage_of({d.id: [Extent(0, d.size)] for d in manifest.disks})
        elif wrong:
            damage = _damage_in(bench, manifest, wrong)
        if damage or manifest.number in context["read"]:
            found.append(Scrubbed(manifest.number, dict(damage)))
    bench.figures["damaged"] = sum(bool(f.damage) for f in found)
    context["found"] = encode(found)
    context["newest"] = lineage.last_number


def _damage_in(bench: Bench, manifest: Manifest, wrong: Damage) -> Damage:
    damage = {}
    meter = _Meter(bench, 0, 0)
    with _Reader(bench, manifest.number) as reader:
        for disk in manifest.disks:
            extents = list(extents_of(wrong, disk.id))
            if not extents:
                continue
            with held.layers(bench, _folder(bench), manifest, disk.id, disk.size) as expected:
                try:
                    damage[disk.id] = _verify(bench, reader.export(disk.id), expected, disk.id,
                                              extents, meter).mismatches
                except GiveUp as error:
                    if error.code == "point.not-found":
                        return {}
                    if error.code != "point.unreadable":
                        raise
                    damage[disk.id] = (Extent(0, disk.size),)
    return damage_of(damage)


def _report(bench: Bench, context: Json) -> None:
    found = decode(_Found, {"points": context["found"]}).points
    bench.link.scrubbed(bench.task, found, context["newest"])
    fault_point("scrub.after-report")
    shutil.rmtree(_folder(bench), ignore_errors=True)
    bad = [f for f in found if f.damage]
    if bad:
        raise GiveUp("scrub.found-damage", points=", ".join(str(f.number) for f in bad),
                     size=max(size_of(f.damage) for f in bad), name=bench.rule.name)
    bench.say("scrub.good", points=len(found), size=bench.figures["bytes_read"])


def _clean_up(bench: Bench, _context: Json) -> None:
    shutil.rmtree(_folder(bench), ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Found:
    points: tuple[Scrubbed, ...]


_FIGURES: Json = {"bytes_read": 0, "points": 0, "damaged": 0, "retries": 0}

WORKFLOW = Workflow((
    Step("choose-points", _choose),
    Step("read-points", _read),
    Step("judge-points", _judge),
    Step("report", _report),
), clean_up=_clean_up, figures=_FIGURES)


# --- parts -------------------------------------------------------------------------------------


def _folder(bench: Bench) -> Path:
    """Of its own: a run beside it clears the rule's."""
    return bench.folder / "scrub"


def _lineage(bench: Bench) -> Lineage:
    return bench.target.target(bench.key).lineage(replica_of(bench))


def _usable(bench: Bench, number: int) -> Manifest | None:
    return next((p for p in _lineage(bench).usable if p.number == number), None)


def _load(bench: Bench) -> _Position:
    try:
        return decode(_Position, json.loads((_folder(bench) / "position.json").read_text()))
    except (OSError, ValueError):
        return _Position()          # it costs time and nothing else


def _save(bench: Bench, position: _Position) -> _Position:
    with replacing(_folder(bench) / "position.json") as out:
        out.write(json.dumps(encode(position)).encode())
    return position


def _expected_bytes(bench: Bench, numbers: list[int]) -> Iterator[int]:
    """Bytes to be read at most: what the manifests say was written."""
    for manifest in _lineage(bench).usable:
        if manifest.number in numbers:
            yield sum(disk.changed for disk in manifest.disks)


def _overwritten(bench: Bench, number: int, disk: DiskPoint,
                 stack: ExitStack) -> Iterable[Extent]:
    """What of the disk no younger point reads through: its successor has written it anew."""
    successor = _lineage(bench).successor(number)
    if successor is None or successor.disk(disk.id) is None:
        return (Extent(0, disk.size),)
    tables = [stack.enter_context(held.table(bench, _folder(bench), blob.name))
              for blob in successor.digests]
    sections = [(t, t.section(disk.id)) for t in tables]
    if any(s is not None and s.fresh for _, s in sections):
        return (Extent(0, disk.size),)
    return union(*(t.changed(disk.id) for t, s in sections if s is not None))


def _stretches(extents: Iterable[Extent], begin: int) -> Iterator[list[Extent]]:
    """The extents from ``begin`` on, an end of an earlier stretch, in parts."""
    part: list[Extent] = []
    for extent in extents:
        offset = extent.offset
        while offset < extent.end:
            end = min(extent.end, (offset // _STRETCH + 1) * _STRETCH)
            if part and (part[0].offset // _STRETCH != offset // _STRETCH or len(part) >= _PIECES):
                yield part
                part = []
            if end > begin:
                part.append(Extent(max(offset, begin), end - max(offset, begin)))
            offset = end
    if part:
        yield part


def _verify(bench: Bench, export: Export, expected: Any, disk: str, extents: list[Extent],
            meter: _Meter) -> VerifyResult:
    def stop() -> bool:
        bench.check_stop()
        bench.pace.follow()
        return False

    return verify_disk(export, expected, digest_key(bench.key), Control(
        stop=stop, progress=meter.progress), disk=disk, directory=_folder(bench), extents=extents,
        throttles=bench.pace.throttles, transfer_buffer=bench.rule.transfer_buffer)


class _Meter:
    """Progress over all that is read."""

    def __init__(self, bench: Bench, done: int, expected: int) -> None:
        self._bench, self._done, self._expected = bench, done, expected
        self._meter, self._metered = RateMeter(), done

    def next(self, done: int) -> None:
        self._done = done

    def progress(self, now: TransferProgress) -> None:
        done = self._done + now.done
        self._meter.add(max(0, done - self._metered))
        self._metered = done
        rate = self._meter.rate()
        whole = max(self._expected, self._done + now.total)
        self._bench.progress("read-points", done, whole, rate=rate, disks=now.disks,
                             seconds_left=(whole - done) / rate if rate >= 1 else None)


class _Reader:
    """The exports of a point, opened when they are first wanted, and again when they were taken
    away."""

    def __init__(self, bench: Bench, number: int) -> None:
        self._bench, self._number = bench, number
        self._stack = ExitStack()
        self._exports: Mapping[str, Export] = {}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def export(self, disk: str) -> Export:
        return _Reopening(lambda: self._open(disk))

    @contextmanager
    def _open(self, disk: str) -> Iterator[NbdEndpoint]:
        if self._exports:
            try:
                with ExitStack() as stack:
                    endpoint = stack.enter_context(self._exports[disk].open())
                    kept = stack.pop_all()
            except Reconnect:
                pass                # taken away
            else:
                with kept:
                    yield endpoint
                return
        # the old one goes last: as long as one is there, the point is kept
        with ExitStack() as stack:
            self._exports = self._read_point(stack)
            self._stack, old = stack.pop_all(), self._stack
        old.close()
        with self._exports[disk].open() as endpoint:
            yield endpoint

    def _read_point(self, stack: ExitStack) -> Mapping[str, Export]:
        bench, waited = self._bench, 0.0
        while True:
            try:
                return stack.enter_context(bench.target.target(bench.key).read_point(
                    replica_of(bench), self._number))
            except Retry as error:
                if error.code != "replica.busy" or waited >= _PATIENCE_S:
                    raise
                if not waited:
                    bench.say("scrub.waits", point=self._number)
            bench.wait(_BUSY_S)
            waited += _BUSY_S


@dataclass(frozen=True, slots=True)
class _Reopening:
    open: Callable[[], Any]
