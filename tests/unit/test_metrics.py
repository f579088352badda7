"""What Prometheus scrapes, read by its own parser."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from hotspare.domain.errors import HotspareError, Refused
from hotspare.domain.rule_states import RuleState
from hotspare.services import metrics
from hotspare.store import schema
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, rig, served


@pytest.fixture
def made(tmp_path: Path, database: str | None) -> Iterator[Rig]:
    with rig(tmp_path, database=database) as it:
        it.platforms()
        yield it


def read(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Values by name of the series, and by its labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def one(found: dict[str, Any], name: str, /, **labels: str) -> float:
    return float(found[f"hotspare_{name}"][tuple(sorted(labels.items()))])


def test_every_state_machine_and_outcome(made: Rig) -> None:
    first = made.rule("a", "web0", interval_s=600)
    made.rule("b", "web1")
    made.run(first)
    made.player.fail["replicate"] = Refused("storage.busy", storage="x")
    made.run(first)
    found = read(made.services.metrics.text(VIEWER))
    for state in RuleState:
        assert one(found, "rules", state=state.value) == {
            "idle": 1, "stopped": 1}.get(state.value, 0)
    assert one(found, "tasks_total", kind="replicate", outcome="ok") == 1
    assert one(found, "tasks_total", kind="replicate", outcome="failed") == 1
    assert one(found, "tasks_total", kind="check", outcome="ok") == 2
    assert one(found, "machine_live", machine="local") == 1
    assert one(found, "queued_tasks", machine="local") == 0
    assert one(found, "rules_unprotected") == 1
    assert one(found, "restore_points") == 1
    assert one(found, "stored_bytes") == 1 << 20
    assert one(found, "rule_rpo_target_seconds", rule=first, name="a") > 600
    assert 0 <= one(found, "rule_point_age_seconds", rule=first, name="a") < 60
    assert len(found["hotspare_rule_point_age_seconds"]) == 1
    without = read(made.services.metrics.text(VIEWER, rules=False))
    assert set(found) - set(without) == {"hotspare_rule_point_age_seconds",
                                         "hotspare_rule_rpo_target_seconds"}


def test_the_queue_is_counted(made: Rig) -> None:
    made.player.hold.set()
    for i in range(3):
        made.services.rules.start(OPERATOR, made.rule(f"r{i}", f"web{i}"))
    with made.services.context.change() as change:
        change.conn.execute(sa.update(schema.task).where(schema.task.c.rule.is_not(None))
                            .values(state="queued"))
        change.conn.execute(sa.update(schema.task).where(
            schema.task.c.id == sa.select(sa.func.max(schema.task.c.id)).scalar_subquery())
            .values(state="running"))
    found = read(made.services.metrics.text(VIEWER))
    assert one(found, "queued_tasks", machine="local") == 2
    assert one(found, "running_tasks", machine="local") == 1


def test_the_histogram_is_cumulative_and_counts_all(made: Rig) -> None:
    made.run(made.rule())
    found = read(made.services.metrics.text(VIEWER))
    buckets = found["hotspare_task_duration_seconds_bucket"]
    series = [value for labels, value in buckets.items() if ("kind", "replicate") in labels]
    assert len(series) == len(metrics.BOUNDS_S) + 1 and series == sorted(series)
    assert one(found, "task_duration_seconds_bucket", kind="replicate", le="+Inf") == 1
    assert one(found, "task_duration_seconds_count", kind="replicate") == 1
    assert 0 < one(found, "task_duration_seconds_sum", kind="replicate") < 60


def test_counters_survive_pruning_and_a_restart(made: Rig) -> None:
    made.run(made.rule())
    before = read(made.services.metrics.text(VIEWER))
    with made.services.context.change() as change:
        change.conn.execute(sa.delete(schema.task))
    after = read(made.services.metrics.text(VIEWER))
    for name in ("hotspare_tasks_total", "hotspare_moved_bytes_total",
                 "hotspare_task_duration_seconds_bucket"):
        assert after[name] == before[name]


def test_a_name_cannot_break_the_format(made: Rig) -> None:
    rule = made.rule()
    made.run(rule)
    strange = 'a"b\\c\nhotspare_rules{state="x"} 666'
    with made.services.context.change() as change:
        change.conn.execute(sa.update(schema.rule).values(name=strange))
    found = read(made.services.metrics.text(VIEWER))
    assert one(found, "rule_point_age_seconds", rule=rule, name=strange) >= 0
    assert set(found["hotspare_rules"]) == {(("state", s.value),) for s in RuleState}


def test_series_of_rules_are_bounded(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_RULES", 1)
    for i in range(2):
        made.run(made.rule(f"r{i}", f"web{i}"))
    found = read(made.services.metrics.text(VIEWER))
    assert len(found["hotspare_rule_point_age_seconds"]) == 1


def test_over_http_with_a_token_of_its_own(tmp_path: Path) -> None:
    with rig(tmp_path) as made:
        with pytest.raises(HotspareError) as caught:
            made.services.users.metrics_token(OPERATOR)
        assert caught.value.code == "auth.role"
        first = made.services.users.metrics_token(ADMIN)
        token = made.services.users.metrics_token(ADMIN)
        with served(made) as it, httpx.Client(
                base_url=it.url, trust_env=False, timeout=30.0,
                verify=ssl.create_default_context(cafile=str(it.ca))) as http:
            for wrong in ({}, {"Authorization": "Bearer x"},
                          {"Authorization": f"Bearer {first}"}):
                assert http.get("/metrics", headers=wrong).status_code == 401
            http.headers["Authorization"] = f"Bearer {token}"
            answer = http.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == (
                "text/plain; version=0.0.4; charset=utf-8")
            assert one(read(answer.text), "rules", state="idle") == 0
            # it may look, and change nothing
            assert http.get("/api/v1/rules").status_code == 200
            assert http.post("/api/v1/rules/x/start").status_code == 403
            assert http.post("/api/v1/metrics/token").status_code == 403


def test_a_person_named_metrics_is_not_taken_over(tmp_path: Path) -> None:
    with rig(tmp_path) as made:
        made.services.users.add(ADMIN, "metrics", "long enough", "administrator")
        with pytest.raises(HotspareError) as caught:
            made.services.users.metrics_token(ADMIN)
    assert caught.value.code == "user.exists"
