"""Rules and restore points from what lies at the targets: the services' part, on both databases.
Reading real targets: tests/e2e/test_rebuild.py."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import ForeignChange, GiveUp, HotspareError
from hotspare.domain.lineage import DiskPoint, Lineage, Manifest
from hotspare.domain.machine import DiskSpec, VmDescription
from hotspare.platforms.port import ReplicaRef, Running
from hotspare.services import Services
from hotspare.store import schema
from hotspare.workflows.link import FoundReplica
from unit.service_rig import ADMIN, OPERATOR, Rig, rig, wait_until

RULE = "0123abcd"


def found(rule: str = RULE, vm: str = "uuid-0", points: int = 3, epoch: int = 1, first: int = 1,
          running: bool = False, storage: str = "default") -> FoundReplica:
    description = VmDescription(ref=vm, name="web0", uuid=vm, memory=1 << 28, vcpus=1,
                                disks=(DiskSpec("vda", 1 << 30),))
    manifests = tuple(
        Manifest(rule=rule, number=n, epoch=epoch, task=n, taken_at=time.time() - 100 + n,
                 consistency="crash", vm=description,
                 disks=(DiskPoint("vda", 1 << 30, f"f{n}", moved=1 << 20),))
        for n in range(first, first + points))
    replica = ReplicaRef(rule, storage)
    return FoundReplica(
        replica, Lineage(rule, epoch, sequence=points, points=manifests, last_number=points),
        Running(replica, 2, "web0-here", "uuid-f", f"hs-{rule}-e1-t9-i1") if running else None)


@pytest.fixture
def here(tmp_path: Path, database: str | None) -> Iterator[Rig]:
    with rig(tmp_path, database=database) as made:
        made.platforms()
        yield made


def rebuild(here: Rig, *replicas: FoundReplica, platform: str = "dst") -> Any:
    here.player.replicas = list(replicas)
    return here.ended(here.services.rebuild.start(ADMIN, platform))


def codes(here: Rig, **of: Any) -> list[str]:
    return [line.code for line in here.services.logs.page(ADMIN, **of).items]


def test_a_rule_is_made_of_what_its_target_says(here: Rig) -> None:
    task = rebuild(here, found(points=12, epoch=4))
    assert task.outcome == "ok"
    rule = here.services.rules.get(ADMIN, RULE)
    assert (rule.name, rule.state, rule.enabled, rule.schedule) == ("web0", "stopped", False, None)
    assert (rule.source_name, rule.target_name, rule.vm) == ("src", "dst", "uuid-0")
    assert (rule.storage, rule.replica_name, rule.epoch) == ("default", "web0", 4)
    assert (rule.points, rule.latest_point) == (12, 12)
    assert rule.retention == 12, "the first run must not merge points away"
    assert codes(here, rule=RULE) == ["rebuild.made"]
    rebuild(here, found(points=12, epoch=4))        # again: nothing is new
    assert len(here.services.rules.list(ADMIN).items) == 1
    here.ended(here.services.rules.failover(OPERATOR, RULE, 5))
    assert here.state(RULE) == "temporary-failover"
    with here.services.context.read() as conn:
        assert "platform.rebuild" in conn.execute(sa.select(schema.audit.c.action)).scalars().all()


def test_without_its_source_a_rule_can_be_failed_over_and_finds_it_later(here: Rig) -> None:
    rebuild(here, found(vm="uuid-7"))
    rule = here.services.rules.get(ADMIN, RULE)
    assert rule.source_name == "unknown source"
    assert "rebuild.no-source" in codes(here, rule=RULE)
    here.ended(here.services.rules.failover(OPERATOR, RULE, None))
    here.ended(here.services.rules.undo(OPERATOR, RULE))
    here.player.vms = 8
    here.ended(here.services.platforms.refresh(OPERATOR, "src"))
    rebuild(here, found(vm="uuid-7"))
    assert here.services.rules.get(ADMIN, RULE).source_name == "src"
    assert here.run(RULE).outcome == "ok"
    here.services.platforms.remove(ADMIN, "unknown source")


def test_an_older_database_adopts_newer_points_and_deletes_none(here: Rig) -> None:
    ident = here.rule()
    here.run(ident)
    rebuild(here, found(ident, points=5, epoch=3))
    rule = here.services.rules.get(ADMIN, ident)
    assert (rule.name, rule.points, rule.latest_point, rule.epoch) == ("r1", 5, 5, 3)
    assert "rebuild.adopted" in codes(here, rule=ident)
    rebuild(here, found(ident, points=5, epoch=2))      # an epoch never falls
    assert here.services.rules.get(ADMIN, ident).epoch == 3
    here.player.points[ident] = list(found(ident, points=5).lineage.points)  # type: ignore[union-attr]
    assert here.run(ident).outcome == "ok"
    assert here.services.rules.get(ADMIN, ident).latest_point == 6


def test_a_copy_of_a_replica_in_another_storage_is_not_believed(here: Rig) -> None:
    rebuild(here, found(points=5), found(points=2, storage="lvm"))
    assert here.services.rules.get(ADMIN, RULE).points == 5
    assert "rebuild.elsewhere" in codes(here, rule=RULE)


def test_two_targets_each_give_their_own_rules(here: Rig) -> None:
    """A copy of a replica on another platform, in a storage of the same name, is not believed."""
    rebuild(here, found(points=5))
    rebuild(here, found("bbbbbbbb", vm="uuid-1", points=2), platform="src")
    rules = {r.id: r for r in here.services.rules.list(ADMIN).items}
    assert {i: (r.target_name, r.points) for i, r in rules.items()} == {
        RULE: ("dst", 5), "bbbbbbbb": ("src", 2)}
    # The machine is asked for the key of each replica; the player has none of the other rule's.
    task = here.services.rebuild.start(ADMIN, "src")
    here.ended(task)
    with here.services.context.change() as change:
        from hotspare.services.rebuild import adopt

        row = change.conn.execute(sa.select(schema.task).where(schema.task.c.id == task)).one()
        adopt(change, row, found(RULE, points=1, epoch=9))
    rule = here.services.rules.get(ADMIN, RULE)
    assert (rule.points, rule.epoch, rule.target_name) == (5, 1, "dst")
    assert "rebuild.elsewhere" in codes(here, rule=RULE)


def test_a_failover_that_stands_is_shown_and_can_be_undone(here: Rig) -> None:
    ident = here.rule()
    here.run(ident)
    rebuild(here, found(running=True, vm="uuid-1"), found(ident, running=True))
    for rule in (RULE, ident):
        view = here.services.rules.get(ADMIN, rule)
        assert (view.state, view.failover_point) == ("temporary-failover", 2)
        assert view.failover_detail is not None
        assert view.failover_detail["intent"].startswith(f"hs-{rule}-")
    assert here.services.rules.get(ADMIN, RULE).replica_name == "web0-here"
    here.ended(here.services.rules.undo(OPERATOR, ident))
    assert here.state(ident) == "finished"


def test_a_replica_that_runs_is_not_taken_for_its_own_source(here: Rig) -> None:
    """The inventory of its target lists it, as the machine that it is a copy of."""
    target = here.services.platforms.get(ADMIN, "dst").id
    with here.services.context.change() as change:
        change.conn.execute(sa.insert(schema.platform_vm).values(
            platform=target, ref="uuid-9", name="web9", power="running", size=1 << 30,
            protectable=True, reason="", fields={}))
    replica = found(vm="uuid-9", running=True)
    assert replica.running is not None
    same = replace(replica, running=replace(replica.running, ref="uuid-9"))
    for _ in range(2):                  # also when the rule is known
        rebuild(here, same)
        assert here.services.rules.get(ADMIN, RULE).source_name == "unknown source"
    # On one and the same host the replica has an id of its own: there the target is the source.
    rebuild(here, replica)
    assert here.services.rules.get(ADMIN, RULE).source_name == "dst"


def test_a_run_that_is_under_way_reads_the_target_itself(here: Rig) -> None:
    ident = here.rule()
    here.player.hold.set()
    task = here.services.rules.start(OPERATOR, ident)
    wait_until(lambda: here.state(ident) == "running")
    rebuild(here, found(ident, epoch=9, running=True))
    assert here.state(ident) == "running"
    assert here.services.rules.get(ADMIN, ident).epoch == 1
    assert "rebuild.busy" in codes(here, rule=ident), "it says that it was left out"
    here.player.hold.clear()
    assert here.ended(task).outcome == "ok"


def test_two_replicas_of_one_machine(here: Rig) -> None:
    """The newer comes first and protects it; the older can be failed over to; names differ."""
    rebuild(here, found("aaaaaaaa"), found("bbbbbbbb"), found("cccccccc"))
    rules = {r.id: r for r in here.services.rules.list(ADMIN).items}
    assert {i: r.source_name for i, r in rules.items()} == {
        "aaaaaaaa": "src", "bbbbbbbb": "unknown source"}
    assert rules["bbbbbbbb"].name == "web0 (bbbbbbbb)"
    assert "rebuild.twice" in codes(here, rule="bbbbbbbb")


def test_a_rule_that_was_deleted_stays_deleted(here: Rig) -> None:
    ident = here.rule()
    here.run(ident)
    here.ended(here.services.rules.delete(OPERATOR, ident, False))
    here.player.replicas = []
    task = here.services.rebuild.start(ADMIN, "dst")
    here.ended(task)
    with here.services.context.change() as change:
        row = change.conn.execute(sa.select(schema.task).where(schema.task.c.id == task)).one()
        from hotspare.services.rebuild import adopt

        adopt(change, row, found(ident))
    assert here.services.rules.list(ADMIN).items == []
    assert "rebuild.deleted" in codes(here, task=task)


def test_what_cannot_be_read_is_named(here: Rig) -> None:
    bad = FoundReplica(ReplicaRef("dddddddd", "default"),
                       error=ForeignChange("lineage.forged", rule="dddddddd").as_dict())
    empty = found("eeeeeeee", points=0)
    task = rebuild(here, bad, empty, found())
    assert [r.id for r in here.services.rules.list(ADMIN).items] == [RULE]
    assert {"rebuild.unreadable", "rebuild.empty"} <= set(codes(here, task=task.id))


def test_a_key_is_given_for_what_is_read_and_only_meanwhile(here: Rig) -> None:
    ident = here.rule()
    for rule in (RULE, "ffffffff"):
        with pytest.raises(GiveUp):
            here.link.rule_key(rule)
    other = here.services.link("other", here.folder / "other")
    here.player.fail["rebuild"] = GiveUp("platform.unknown-kind", kind="x")
    with here.services.context.change() as change:
        from hotspare.services import queue

        platform = here.services.platforms.get(ADMIN, "dst").id
        task = queue.enqueue(change, "rebuild", ADMIN, machine="other", platform=platform)
    assert other.next_task(0.0) is not None
    assert other.rule_key(ident) == here.services.context.keys.rule_key(ident)
    assert other.rule_key(RULE) != other.rule_key(ident)
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.rule).values(
            target=here.services.platforms.get(ADMIN, "src").id))
    with pytest.raises(GiveUp):
        other.rule_key(ident)           # its replica is on another platform
    with pytest.raises(HotspareError):
        here.link.rule_key(RULE)        # another machine reads it
    assert task


def test_a_lost_database_gives_no_number_twice(tmp_path: Path, database: str | None) -> None:
    old = tmp_path / "old"
    old.mkdir(0o700)
    with rig(old) as before:
        before.platforms()
        used = before.services.platforms.check(ADMIN, "src")
        before.ended(used)
    new = tmp_path / "new"
    new.mkdir(0o700)
    shutil.copy(old / "secret.key", new / "secret.key")
    with rig(new, database=database) as made:
        made.platforms()
        task = rebuild(made, found())
        assert task.id > 1_000_000_000 > used
        assert made.services.rules.get(ADMIN, RULE).points == 3


def test_only_an_administrator_rebuilds(here: Rig) -> None:
    with pytest.raises(HotspareError) as caught:
        here.services.rebuild.start(OPERATOR, "dst")
    assert caught.value.code == "auth.role"


def test_after_a_restore_all_targets_are_read_at_the_start(
        tmp_path: Path, database: str | None) -> None:
    with rig(tmp_path, database=database) as made:
        made.platforms()
        ident = made.rule()
        made.run(ident)
        with made.services.context.change() as change:
            from hotspare.services import restored

            restored.settle(change)
    services = Services.open(tmp_path, database=database)
    link = services.link("local", tmp_path / "temp")
    services.start()
    try:
        task = link.next_task(5.0)
        assert task is not None and task.kind == "rebuild"
        assert task.platform == services.platforms.get(ADMIN, "dst").id
        services.rebuild.resume()       # once only
        assert link.next_task(0.2) is None
    finally:
        services.stop()
        services.close()


def test_after_a_restore_the_schedule_waits_for_the_targets(
        tmp_path: Path, database: str | None) -> None:
    """A run that is long due would hide a failover that stands at the target."""
    from hotspare.services import restored

    with rig(tmp_path, database=database) as made:
        made.platforms()
        ident = made.rule(interval_s=10)
        made.run(ident)
        with made.services.context.change() as change:
            restored.settle(change)
            change.conn.execute(sa.update(schema.rule).values(next_run_at=change.now - 3600))
    with rig(tmp_path, database=database) as made:
        made.player.replicas = [found(ident, running=True)]
        made.services.start()
        wait_until(lambda: made.state(ident) == "temporary-failover")
        assert [t.kind for t in made.player.begun] == ["rebuild"]
