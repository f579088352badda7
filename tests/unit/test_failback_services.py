"""Failback in the services: what it comes to, step by step, and what each end of a task means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_rig import ADMIN, OPERATOR, VIEWER, Rig, rig, wait_until

from hotspare.domain.errors import GiveUp, HotspareError
from hotspare.services.context import Actor


@pytest.fixture
def here(tmp_path: Path, database: str | None) -> Iterator[Rig]:
    with rig(tmp_path, database=database) as made:
        made.platforms()
        yield made


def failed_over(here: Rig, **more: Any) -> str:
    rule = here.rule(**more)
    here.run(rule)
    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    return rule


def refused(code: str, call: Any, *arguments: Any, **more: Any) -> None:
    with pytest.raises(HotspareError) as caught:
        call(*arguments, **more)
    assert caught.value.code == code


def steps(here: Rig, rule: str) -> list[str]:
    """What of the way there and back may be done now."""
    return [o for o in view(here, rule).operations if o not in {"test", "scrub"}]


def view(here: Rig, rule: str) -> Any:
    return here.services.rules.get(VIEWER, rule)


def test_there_and_home(here: Rig) -> None:
    rules = here.services.rules
    rule = here.rule(interval_s=3600)
    refused("rule.not-failed-over", rules.failback, OPERATOR, rule)
    refused("rule.no-failback", rules.switch_back, OPERATOR, rule)
    here.run(rule)
    here.ended(rules.failover(OPERATOR, rule, None))
    refused("auth.role", rules.failback, Actor("vera", "viewer"), rule)
    here.ended(rules.failback(OPERATOR, rule, shut_down=True, grace_s=5))
    assert steps(here, rule) == ["log", "failback", "switch-back", "undo-failback"]
    refused("rule.in-failback", rules.undo, OPERATOR, rule)
    refused("rule.in-failback", rules.permanent, OPERATOR, rule, None, "web0")
    refused("rule.failback-state", rules.commit_failback, OPERATOR, rule)
    task = here.ended(rules.failback(OPERATOR, rule))     # again, as often as one likes
    assert here.player.begun[-1].arguments["failback"] == {"origin": {}}
    assert (task.kind, here.state(rule)) == ("failback", "ready-to-switch")
    here.ended(rules.switch_back(OPERATOR, rule))
    assert steps(here, rule) == ["log", "commit-failback", "undo-failback"]
    assert view(here, rule).commit_at is None
    here.ended(rules.commit_failback(OPERATOR, rule))
    found = view(here, rule)
    assert (found.state, found.failover_point, found.failback) == ("idle", None, None)
    assert found.enabled and found.next_run_at is not None


def test_undone(here: Rig) -> None:
    rules = here.services.rules
    rule = failed_over(here)
    here.ended(rules.failback(OPERATOR, rule))
    here.ended(rules.undo_failback(OPERATOR, rule))       # the source has not run: no question
    assert here.state(rule) == "temporary-failover" and view(here, rule).failback is None
    here.ended(rules.failback(OPERATOR, rule))
    here.ended(rules.switch_back(OPERATOR, rule, commit_after_s=3600))
    assert view(here, rule).commit_at is not None
    refused("failback.confirm-undo", rules.undo_failback, OPERATOR, rule, "web1")
    here.ended(rules.undo_failback(OPERATOR, rule, "web0"))
    found = view(here, rule)
    assert (found.state, found.commit_at) == ("temporary-failover", None)
    assert found.failover_point == 1


def test_what_failed_can_go_on_or_be_undone(here: Rig) -> None:
    rules, fail = here.services.rules, here.player.fail
    rule = failed_over(here)
    fail["failback"] = GiveUp("failback.source-runs", vm="web0", name="r1")
    here.ended(rules.failback(OPERATOR, rule))
    assert here.state(rule) == "temporary-failover", "nothing was written"
    del fail["failback"]
    here.ended(rules.failback(OPERATOR, rule))
    fail["failback"] = fail["switch-back"] = GiveUp("task.failed", task=1)
    here.ended(rules.failback(OPERATOR, rule))
    assert steps(here, rule) == ["log", "failback", "switch-back", "undo-failback"]
    assert here.state(rule) == "failback-halted"
    here.ended(rules.switch_back(OPERATOR, rule))
    assert here.state(rule) == "failback-halted"
    fail["undo-failback"] = GiveUp("task.failed", task=1)
    here.ended(rules.undo_failback(OPERATOR, rule))
    assert here.state(rule) == "failback-halted"
    fail.clear()
    here.ended(rules.undo_failback(OPERATOR, rule))
    assert here.state(rule) == "temporary-failover"


def test_a_commit_that_has_begun_is_not_undone(here: Rig) -> None:
    rules = here.services.rules
    rule = failed_over(here)
    here.ended(rules.failback(OPERATOR, rule))
    here.ended(rules.switch_back(OPERATOR, rule))
    here.player.fail["commit-failback"] = GiveUp("task.failed", task=1)
    here.ended(rules.commit_failback(OPERATOR, rule))
    assert steps(here, rule) == ["log", "commit-failback"]
    refused("failback.is-committed", rules.undo_failback, OPERATOR, rule, "web0")
    here.player.fail.clear()
    here.ended(rules.commit_failback(OPERATOR, rule))
    assert here.state(rule) == "finished"


def test_it_commits_itself(here: Rig) -> None:
    """The time is in the database: it passes also while nothing runs."""
    rules = here.services.rules
    rule = failed_over(here)
    here.ended(rules.failback(OPERATOR, rule))
    here.ended(rules.switch_back(OPERATOR, rule, commit_after_s=3600))
    context, now = here.services.context, here.services.context.clock()
    assert here.services.scheduler.run_due() == pytest.approx(now + 3600, abs=60)
    assert here.state(rule) == "failed-back"
    context.clock = lambda: now + 3700
    here.services.scheduler.run_due()
    wait_until(lambda: here.state(rule) == "finished")
    tasks = here.services.tasks.list(ADMIN, rule=rule).items
    assert (tasks[0].kind, tasks[0].trigger) == ("commit-failback", "service")


def test_the_bulk_phase_can_be_stopped(here: Rig) -> None:
    """Which leaves the schedule as it was."""
    rules = here.services.rules
    rule = here.rule(interval_s=3600)
    here.run(rule)
    here.ended(rules.failover(OPERATOR, rule, None))
    here.services.machines.set(ADMIN, "local", max_tasks=1)
    here.player.hold.set()
    other = here.rule("r2", "web1")
    rules.start(OPERATOR, other)
    wait_until(lambda: any(t.rule and t.rule.id == other for t in here.player.begun))
    task = rules.failback(OPERATOR, rule)
    assert "stop" in view(here, rule).operations and view(here, rule).waits_for is not None
    assert rules.stop(OPERATOR, rule).state == "temporary-failover"
    assert here.ended(task).outcome == "stopped" and view(here, rule).enabled
    here.player.hold.clear()
