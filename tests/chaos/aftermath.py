"""When the chaos is over: all comes to rest, each rule runs once more, and all is looked at."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from e2e.rig import wait_for
from hotspare.domain.lineage import Lineage
from hotspare.platforms.libvirt import jobs
from hotspare.store import schema

from .processes import Api, Machine, marked
from .stage import AWAY, Stage, heard
from .vms import Vm
from .watch import Reader, Sampler, check_images

MACHINE_BACK_S = 60.0               # a start, a poll, and a machine that is loaded
FOLDERS_S = 30.0                    # a DR machine looks 5 s after its start


def patience(runs: int) -> float:
    """Nobody promises when so many runs end: long enough for a machine that does much else."""
    return 120.0 + 10.0 * runs


def settle(stage: Stage) -> None:
    """Everything is up, and all rules are stopped where they are."""
    api = Api(stage.server)

    def all_live() -> bool:
        with heard(AWAY):
            return all(m["live"] for m in api(lambda c: c.machines()))
        return False

    wait_for(all_live, MACHINE_BACK_S, "all machines are live")
    for rule in stage.vms:
        api(lambda c, rule=rule: c.edit_rule(  # type: ignore[misc]
            rule, {"schedule": None, "bandwidth": []}))
    for answer in api(lambda c: c.act("stop", list(stage.vms))):
        error = answer["error"]
        if error is not None and error["code"] != "rule.not-running":
            stage.blame(f"{answer['rule']} does not stop: {error}")
    for machine in stage.machines:
        api(lambda c, machine=machine: c.request(  # type: ignore[misc]
            "PATCH", f"/machines/{machine}", body={"max_tasks": 4}))
    wait_for(lambda: not api(lambda c: c.tasks(state="running") + c.tasks(state="dispatched")
                             + c.tasks(state="queued")),
             patience(len(stage.vms)), "all tasks end")
    api.close()


def run_all(stage: Stage) -> None:
    """Every rule runs once more, with what its machine's disks hold now."""
    api = Api(stage.server)
    tasks = {}
    for answer in api(lambda c: c.act("start", list(stage.vms))):
        if answer["ok"]:
            tasks[answer["task"]] = answer["rule"]
        else:
            stage.blame(f"{answer['rule']} does not start: {answer['error']}")
    for task, rule in tasks.items():
        def done(task: Any = task) -> Any:
            found = api(lambda c: c.task(task))
            return found if found["state"] == "ended" else None

        found = wait_for(done, patience(len(tasks)), f"the last run of {rule} ends")
        if found["outcome"] not in {"ok", "warning"}:
            stage.blame(f"the last run of {rule} ({stage.vms[rule].name}): {found['outcome']} "
                        f"{found['error']}")
    api.close()


def look(stage: Stage, reader: Reader, sampler: Sampler) -> None:
    """Everything that must be true now."""
    _machines_restarted(stage)
    sampler.check()
    for rule, vm in stage.vms.items():
        lineage = reader.lineage(rule)
        reader.again(rule, lineage)
        _points(stage, reader, rule, lineage)
        _catalogue(stage, rule, lineage)
        _source(stage, rule, vm, lineage)
        _target(stage, rule, lineage)
        check_images(stage, lineage)
    _hosts(stage)
    _errors(stage)
    stage.tell(f"{len(reader.seen)} restore points were read")


def _machines_restarted(stage: Stage) -> None:
    """A machine that starts removes the folders of rules that were moved away from it."""
    for machine in stage.machines.values():
        machine.stop()
        machine.start()

    def left() -> list[Path]:
        return [p for m in stage.machines.values() for p in m.temp_dir.glob("hs-*")
                if not _has(stage, m, p.name.removeprefix("hs-"))]

    end = time.monotonic() + FOLDERS_S
    while left() and time.monotonic() < end:
        time.sleep(0.5)
    for path in left():
        stage.blame(f"folder {path} of a rule that is another machine's")
    single = [] if stage.fleet else stage.folder.glob("temp/hs-*/*")
    for path in [*single, *(p for m in stage.machines.values() for p in m.temp_dir.glob("*/*"))]:
        stage.blame(f"temporary file {path}")


def _has(stage: Stage, machine: Machine, rule: str) -> bool:
    r = schema.rule
    with stage.store.read() as conn:
        return bool(conn.execute(sa.select(r.c.machine).where(r.c.id == rule)).scalar()
                    == machine.name)


def _points(stage: Stage, reader: Reader, rule: str, lineage: Lineage) -> None:
    """The newest has all that was written; none is gone but for the oldest ones, merged."""
    vm = stage.vms[rule]
    numbers = [point.number for point in lineage.points]
    if not numbers:
        stage.blame(f"{rule} ({vm.name}) has no restore point")
        return
    newest = reader.seen.get((rule, numbers[-1]))
    if newest is None or newest.records < len(vm.done):
        stage.blame(f"the last run of {rule} has {newest and newest.records} records, "
                    f"{len(vm.done)} were written before it")
    lost = [n for r, n in reader.seen if r == rule and n > numbers[0] and n not in numbers]
    if lost:
        stage.blame(f"points {lost} of {rule} are gone, {numbers} are there")
    retention = _rule(stage, rule).retention
    if len(numbers) > retention:
        stage.blame(f"{rule} has {len(numbers)} points, its retention is {retention}")
    t = schema.task
    with stage.store.read() as conn:
        ended = conn.execute(sa.select(t.c.id).where(
            t.c.rule == rule, t.c.kind == "replicate", t.c.outcome.in_(("ok", "warning")))).all()
    if len(ended) > lineage.last_number:
        stage.blame(f"{rule}: {len(ended)} runs were successful, {lineage.last_number} points "
                    "were made")


def _rule(stage: Stage, rule: str) -> Any:
    with stage.store.read() as conn:
        return conn.execute(sa.select(schema.rule).where(schema.rule.c.id == rule)).one()


def _catalogue(stage: Stage, rule: str, lineage: Lineage) -> None:
    p = schema.restore_point
    with stage.store.read() as conn:
        rows = conn.execute(sa.select(p).where(p.c.rule == rule).order_by(p.c.number)).all()
    known = [(r.number, r.task, r.epoch, r.taken_at) for r in rows]
    there = [(m.number, m.task, m.epoch, m.taken_at) for m in lineage.points]
    if known != there:
        stage.blame(f"the catalogue of {rule} says {known}, the target {there}")
    row = _rule(stage, rule)
    if row.state != "finished":
        stage.blame(f"{rule} is {row.state} in the end")


def _source(stage: Stage, rule: str, vm: Vm, lineage: Lineage) -> None:
    """Nothing of ours but the base of the next run. What a machine that is off keeps of older
    checkpoints goes with the first run after it was switched on: only a QEMU can remove it."""
    domain = stage.lab.a.conn.lookupByName(vm.name)
    head = lineage.head
    base = head.tracking["checkpoint"] if head is not None and head.tracking else None
    if domain.isActive():
        for checkpoint in domain.listAllCheckpoints(0):
            if checkpoint.getName().startswith("hs-") and checkpoint.getName() != base:
                stage.blame(f"checkpoint {checkpoint.getName()} at {vm.name}; its base is {base}")
        if jobs.find_job(domain) is not None:
            stage.blame(f"backup job at {vm.name}")


def _target(stage: Stage, rule: str, lineage: Lineage) -> None:
    expected = {f"hs-{rule}.lineage"}
    for point in lineage.points:
        expected |= {d.file for d in point.disks} | {b.name for b in point.digests}
    there = {p.name for p in stage.lab.b.storage_dir.glob(f"hs-{rule}*")}
    for name in there ^ expected:
        stage.blame(f"volume {name} " + ("is left" if name in there else "is missing"))


def _hosts(stage: Stage) -> None:
    for host in (stage.lab.a, stage.lab.b):
        for domain in host.conn.listAllDomains():
            if domain.name().startswith("hs-"):
                stage.blame(f"domain {domain.name()} on host {host.name}")
        for path in host.socket_dir.glob("hs-*"):
            stage.blame(f"socket {path}")
        left = (set(host.qemu_pids()) - {"driver"}         # libvirtd's own pid file
                - {d.name() for d in host.conn.listAllDomains()})
        if left:
            stage.blame(f"QEMU processes of {left} on host {host.name}")
    for path in stage.lab.a.storage_dir.glob("*.scratch"):
        stage.blame(f"scratch file {path}")


def _errors(stage: Stage) -> None:
    """A run may fail in this weather, but with an error that says why."""
    t = schema.task
    with stage.store.read() as conn:
        rows = conn.execute(sa.select(t).where(t.c.state == "ended")).all()
    ends: Counter[str] = Counter()
    for row in rows:
        code = (row.error or {}).get("code", "")
        ends[f"{row.kind} {row.outcome} {code}".strip()] += 1
        if code in _NEVER:
            stage.blame(f"task {row.id} of {row.rule}: {row.error}")
    for what, count in ends.most_common():
        stage.tell(f"{count:4} {what}")


_NEVER = frozenset({
    "internal.error", "replica.changed", "lineage.forged", "lineage.version", "lineage.missing",
    "point.conflict", "point.mismatch", "blob.changed", "replicate.state-lost", "name.taken"})
"""Nobody touched a replica, and no two writers of one may have met."""


def nothing_runs(stage: Stage, mark: str) -> None:
    """All processes ended when they were told to, with all that they had started."""
    for machine in stage.machines.values():
        machine.stop()
    stage.server.stop()
    end = time.monotonic() + 10.0
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.1)
    for process in marked(mark):
        stage.blame(f"process {process}")
