"""Scrubs as the services see them: marks, what a failover takes, stop, and schedules."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotspare.domain.damage import damage_of, extents_of, size_of, united, without
from hotspare.domain.errors import GiveUp, HotspareError
from hotspare.domain.extents import BLOCK, Extent, bounded, total
from hotspare.domain.schedule import Schedule
from hotspare.services import NewRule
from hotspare.store import schema
from hotspare.workflows.link import Scrubbed
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, manifest, rig, wait_until

A = {"vda": [[0, BLOCK]]}
B = {"vda": [[4 * BLOCK, BLOCK]]}
FOUND = GiveUp("scrub.found-damage", points="2", size=BLOCK, name="r1")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        made.platforms(vms=8)
        yield made


def damaged(here: Rig, rule: str) -> dict[int, int]:
    return {p.number: p.damaged for p in here.services.rules.points(VIEWER, rule).items
            if p.damaged_at is not None}


def codes(here: Rig, rule: str) -> list[str]:
    return [line.code for line in here.services.logs.page(VIEWER, rule=rule).items]


def refused(code: str, call: Any, *arguments: Any, **more: Any) -> HotspareError:
    with pytest.raises(HotspareError) as caught:
        call(*arguments, **more)
    assert caught.value.code == code
    return caught.value


# --- damage --------------------------------------------------------------------------------------


def test_damage_is_bounded_and_never_less_than_what_is_wrong() -> None:
    wrong = [Extent(n * 3 * BLOCK, BLOCK) for n in range(100_000)]
    few = bounded(wrong, 300_000 * BLOCK, 1000)
    assert len(few) <= 1000 and total(few) < 6 * total(wrong)
    assert all(any(f.offset <= w.offset and w.end <= f.end for f in few)
               for w in wrong[::5000])
    assert bounded(wrong[:7], 300_000 * BLOCK, 1000) == tuple(wrong[:7])
    assert max(e.end for e in bounded(wrong, 299_999 * BLOCK, 10)) == 299_999 * BLOCK


def test_damages_are_joined_and_taken_from_one_another() -> None:
    both = united(A, B, {"vdb": [[0, 512]]})
    assert both == {"vda": [[0, BLOCK], [4 * BLOCK, BLOCK]], "vdb": [[0, 512]]}
    assert without(both, A) == {"vda": [[4 * BLOCK, BLOCK]], "vdb": [[0, 512]]}
    assert without(both, both) == {} and united() == {}
    assert size_of(both) == 2 * BLOCK + 512
    assert damage_of({"vda": extents_of(both, "vda"), "vdc": ()}) == united(A, B)
    with pytest.raises(ValueError):
        size_of({"vda": [[BLOCK, 1], [0, 1]]})


# --- marks ---------------------------------------------------------------------------------------


def test_marks_follow_what_scrubs_find(here: Rig) -> None:
    rule = here.rule()
    for _ in range(3):
        here.run(rule)
    here.player.damage = {2: A, 3: A}
    here.player.fail["scrub"] = FOUND
    refused("auth.role", here.services.proofs.scrub, VIEWER, rule)
    # it reports, and then it fails
    player, play = here.player, here.player.play

    def scrubs(task: Any) -> None:
        if task.kind == "scrub":
            player.link.scrubbed(task, tuple(
                Scrubbed(n, player.damage.get(n, {})) for n in (1, 2, 3)), 3)
        play(task)

    player.play = scrubs  # type: ignore[method-assign]
    ended = here.ended(here.services.proofs.scrub(OPERATOR, rule, all_points=True))
    assert (ended.outcome, ended.error["code"]) == ("failed", "scrub.found-damage")
    assert damaged(here, rule) == {2: BLOCK, 3: BLOCK}
    assert codes(here, rule).count("point.damaged") == 2
    points = here.services.rules.points(VIEWER, rule).items
    assert all(p.scrubbed_at is not None for p in points)
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.last_result) == ("finished", "ok"), "a scrub does not move its rule"
    text = here.services.metrics.text(VIEWER)
    assert "hotspare_restore_points_damaged 2.0" in text

    # said again it is no news; good again it is
    del player.fail["scrub"]
    player.damage = {2: A}
    here.ended(here.services.proofs.scrub(OPERATOR, rule))
    assert damaged(here, rule) == {2: BLOCK}
    assert codes(here, rule).count("point.damaged") == 2
    assert codes(here, rule).count("point.good-again") == 1


def test_a_new_point_has_what_is_wrong_until_its_run_says_that_it_mended_it(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.damage = {1: united(A, B)}
    here.ended(here.services.proofs.scrub(OPERATOR, rule))
    told: list[Any] = []
    player, play = here.player, here.player.play

    def runs(task: Any) -> None:
        told.append(task)
        play(task)

    player.play = runs  # type: ignore[method-assign]
    here.player.damage = {}
    here.run(rule)
    assert told[-1].rule.damage == united(A, B), "the run is told what to read anew"
    assert damaged(here, rule) == {1: 2 * BLOCK, 2: 2 * BLOCK}, "nobody said that it is mended"

    def mends(task: Any) -> None:
        if task.kind != "replicate":
            return play(task)
        points = player.points[task.rule.id]
        points.append(manifest(task, len(points) + 1))
        player.link.step(task, "publish", "running", {})
        player.link.adopt(task, tuple(points))
        assert damaged(here, rule) == {1: 2 * BLOCK, 2: 2 * BLOCK, 3: 2 * BLOCK}
        player.link.mended(task, 3, A)
        assert damaged(here, rule) == {1: 2 * BLOCK, 2: 2 * BLOCK, 3: BLOCK}
        player.link.mended(task, 3, B)
        player.link.mended(task, 3, B)
        return player.link.finish(task, "ok", None, {})

    player.play = mends  # type: ignore[method-assign]
    here.run(rule)
    assert damaged(here, rule) == {1: 2 * BLOCK, 2: 2 * BLOCK}
    player.play = runs  # type: ignore[method-assign]
    here.run(rule)
    assert told[-1].rule.damage == {}, "the newest is good"


def test_a_point_that_was_published_while_it_was_scrubbed_is_marked_too(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.run(rule)
    player, play = here.player, here.player.play

    def scrubs(task: Any) -> None:
        if task.kind != "scrub":
            return play(task)
        player.link.step(task, "read-points", "running", {})
        player.link.scrubbed(task, (Scrubbed(1, A),), 1)    # it saw the first only
        return player.link.finish(task, "ok", None, {})

    player.play = scrubs  # type: ignore[method-assign]
    here.ended(here.services.proofs.scrub(OPERATOR, rule))
    assert damaged(here, rule) == {1: BLOCK, 2: BLOCK}
    # the second mended it since: what is known of the first already is no news for it
    with here.services.context.change() as change:
        change.conn.execute(schema.restore_point.update().where(
            schema.restore_point.c.number == 2).values(damage=None, damaged_at=None))
    here.ended(here.services.proofs.scrub(OPERATOR, rule))
    assert damaged(here, rule) == {1: BLOCK}


def test_a_failover_takes_the_newest_good_point(here: Rig) -> None:
    rule = here.rule()
    for _ in range(3):
        here.run(rule)
    here.player.damage = {2: A, 3: A}
    here.ended(here.services.proofs.scrub(OPERATOR, rule))
    error = refused("rule.point-damaged", here.services.rules.failover, OPERATOR, rule, 3)
    assert error.fields["good"] == "1"
    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    assert here.services.rules.get(VIEWER, rule).failover_point == 1
    assert "failover.passed-over" in codes(here, rule)
    here.ended(here.services.rules.undo(OPERATOR, rule))
    here.ended(here.services.rules.failover(OPERATOR, rule, None, damaged=True))
    assert here.services.rules.get(VIEWER, rule).failover_point == 3
    here.ended(here.services.rules.undo(OPERATOR, rule))
    here.player.damage = {1: A, 2: A, 3: A}
    here.ended(here.services.proofs.scrub(OPERATOR, rule))
    refused("rule.all-damaged", here.services.rules.failover, OPERATOR, rule, None)
    refused("rule.all-damaged", here.services.rules.permanent, OPERATOR, rule, None, "web0")
    assert here.state(rule) == "finished", "nothing was moved"


# --- beside the rule -----------------------------------------------------------------------------


def test_a_scrub_runs_beside_a_failover_and_is_stopped_by_its_number(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.hold.set()
    task = here.services.proofs.scrub(OPERATOR, rule)
    wait_until(lambda: here.services.tasks.get(VIEWER, task).state == "running")
    refused("rule.busy", here.services.proofs.scrub, OPERATOR, rule)
    refused("rule.looked-at", here.services.rules.delete, OPERATOR, rule)
    view = here.services.rules.get(VIEWER, rule)
    assert "failover" in view.operations
    assert not {"delete", "permanent"} & set(view.operations)
    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    assert here.state(rule) == "temporary-failover"
    refused("auth.role", here.services.tasks.stop, VIEWER, task)
    here.services.tasks.stop(OPERATOR, task)
    assert here.ended(task).outcome == "stopped"
    refused("task.not-stoppable", here.services.tasks.stop, OPERATOR, task)
    here.ended(here.services.rules.undo(OPERATOR, rule))
    run = here.services.rules.start(OPERATOR, rule)
    refused("task.not-stoppable", here.services.tasks.stop, OPERATOR, run)
    here.player.hold.clear()
    here.ended(run)


def test_a_pause_of_a_scrub_is_not_shown_at_the_rule(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.hold.set()
    task = here.services.proofs.scrub(OPERATOR, rule)
    begun = wait_until(lambda: next((t for t in here.player.begun if t.id == task), None))
    here.link.pause(begun, {"code": "pause.rule", "fields": {"until": 1e9}})
    assert here.services.rules.get(VIEWER, rule).pause is None
    here.player.hold.clear()
    here.ended(task)


def test_what_cannot_be_scrubbed_is_refused(here: Rig) -> None:
    rule = here.rule()
    refused("rule.no-point", here.services.proofs.scrub, OPERATOR, rule)
    here.run(rule)
    refused("rule.no-such-point", here.services.proofs.scrub, OPERATOR, rule, 7)
    here.ended(here.services.rules.permanent(OPERATOR, rule, None, "web0"))
    here.settled(rule)
    refused("rule.in-permanent-failover", here.services.proofs.scrub, OPERATOR, rule)


# --- schedules -----------------------------------------------------------------------------------

SUNDAY = Schedule("weekly", at="02:00", weekdays=(7,))


def test_every_sunday_the_newest_point_of_each_rule(here: Rig) -> None:
    proofs = here.services.proofs
    rules = [here.rule(f"r{n}", f"web{n}") for n in range(4)]
    for rule in rules[:3]:
        here.run(rule)                      # the last has no point
    made = proofs.add(OPERATOR, "sundays", {"schedule": SUNDAY, "time_zone": "Europe/Berlin"})
    assert made.next_run_at is not None and time.localtime(made.next_run_at)
    assert proofs.run_due() == made.next_run_at, "not yet"
    now = made.next_run_at + 1
    here.services.context.clock = lambda: now
    here.player.hold.set()
    busy = proofs.scrub(OPERATOR, rules[0])
    following = proofs.run_due()
    assert following is not None and 6.9 * 86400 < following - now < 7.1 * 86400
    tasks = here.services.tasks.list(VIEWER, state="live").items
    assert {(t.rule, t.trigger) for t in tasks if t.kind == "scrub"} == {
        (rules[0], "manual"), (rules[1], "schedule"), (rules[2], "schedule")}
    skipped = {rule: [line.fields["reason"] for line in here.services.logs.page(
        VIEWER, rule=rule).items if line.code == "proof.skipped"] for rule in rules}
    assert skipped == {rules[0]: ["rule.busy"], rules[1]: [], rules[2]: [],
                       rules[3]: ["rule.no-point"]}
    here.player.hold.clear()
    here.ended(busy)
    assert proofs.get(VIEWER, "sundays").last_run_at == now
    assert proofs.run_due() == following, "once"


def test_a_schedule_of_many_rules_goes_on_where_it_was(here: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr("hotspare.services.proofs._BATCH", 2)
    proofs = here.services.proofs
    rules = [here.rule(f"r{n}", f"web{n}") for n in range(5)]
    for rule in rules:
        here.run(rule)
    made = proofs.add(OPERATOR, "all", {"schedule": Schedule("interval", 3600),
                                        "all_points": True})
    assert made.next_run_at is not None
    now = made.next_run_at + 10_000
    here.services.context.clock = lambda: now
    assert proofs.run_due() == made.next_run_at, "two have begun, the others are due"
    assert proofs.run_due() == made.next_run_at
    assert (proofs.run_due() or 0) > now, "missed runs are made up for by one"
    begun = wait_until(lambda: len(t := [t for t in here.player.begun if t.kind == "scrub"]) == 5
                       and t)
    assert {t.rule.id for t in begun} == set(rules)
    assert all(t.arguments == {"all": True} for t in begun)


def test_schedules_are_kept_changed_and_removed(here: Rig) -> None:
    proofs, rule = here.services.proofs, here.rule()
    here.services.groups.create(OPERATOR, "g1", ["web5", "web6"],
                                NewRule("g1", "src", "web5", "dst", "default"))
    refused("auth.role", proofs.add, VIEWER, "a", {"schedule": SUNDAY})
    made = proofs.add(OPERATOR, "A", {"schedule": SUNDAY, "rule": "r1"})
    assert (made.rule, made.rule_name, made.group) == (rule, "r1", None)
    refused("proof.exists", proofs.add, OPERATOR, "a", {"schedule": SUNDAY})
    refused("proof.kind", proofs.add, OPERATOR, "b", {"schedule": SUNDAY, "kind": "nonsense"})
    refused("proof.scope", proofs.add, OPERATOR, "b", {"schedule": SUNDAY, "rule": "r1",
                                                       "group": "g1"})
    refused("schedule.interval", proofs.add, OPERATOR, "b", {"schedule": Schedule("interval", 5)})
    refused("schedule.zone", proofs.add, OPERATOR, "b", {"schedule": SUNDAY, "time_zone": "Mars"})
    changed = proofs.edit(OPERATOR, "a", {"rule": None, "group": "g1", "enabled": False})
    assert (changed.rule, changed.group_name, changed.schedule) == (None, "g1", SUNDAY)
    assert proofs.run_due() is None, "it is off"
    assert [s.name for s in proofs.list(VIEWER).items] == ["A"]
    proofs.remove(OPERATOR, "A")
    refused("proof.not-found", proofs.get, VIEWER, made.id)
    assert {"proof.add", "proof.edit", "proof.remove"} <= {
        line.action for line in here.services.users.audit(ADMIN).items}


# --- a source that comes back --------------------------------------------------------------------


def test_a_source_that_comes_back_is_loudly_told(here: Rig) -> None:
    watch = here.services.source_watch
    rule = here.rule()
    here.run(rule)
    vm = here.services.rules.get(VIEWER, rule).vm
    here.services.notifications.add(ADMIN, name="c", url="json://127.0.0.1:1",
                                    events=["rule.both-run"])
    watch.settle()
    assert [t for t in here.services.tasks.list(VIEWER, state="live").items] == []
    refused("source.in-use", watch.plug, OPERATOR, rule, False)
    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    watch.settle()
    watch.settle()
    live = here.services.tasks.list(VIEWER, state="live").items
    assert [(t.kind, t.trigger) for t in live] == [("watch", "service")]

    def seen(power: str) -> Any:
        return wait_until(lambda: (v := here.services.rules.get(VIEWER, rule)).source_power
                          == power and v)

    assert seen("off").both_run is None
    here.player.power = {vm: "running", "other": "running"}
    both = seen("running")
    assert both.both_run_since is not None
    assert f"hotspare source unplug {both.name}" in both.both_run["remedy"]
    assert "hotspare_rules_both_run 1.0" in here.services.metrics.text(VIEWER)
    time.sleep(0.2)
    assert codes(here, rule).count("rule.both-run") == 1, "once"
    assert here.services.notifications.get(ADMIN, "c").waiting == 1
    here.player.power = None                # it is not known to be off
    assert seen("unknown").both_run_since is not None
    assert here.state(rule) == "temporary-failover"
    assert here.ended(watch.plug(OPERATOR, rule, False)).outcome == "ok"
    assert here.state(rule) == "temporary-failover", "a cable does not move the rule"
    here.player.power = {}
    assert seen("off").both_run_since is None
    assert codes(here, rule).count("rule.both-run-over") == 1
    here.player.power = {vm: "running"}
    seen("running")
    here.ended(here.services.rules.undo(OPERATOR, rule))
    watch.settle()
    view = here.services.rules.get(VIEWER, rule)
    assert (view.source_power, view.both_run_since) == (None, None)
    wait_until(lambda: here.services.tasks.list(VIEWER, state="live").items == [])
    here.ended(watch.plug(OPERATOR, rule, True))
