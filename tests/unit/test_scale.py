"""The bench of many rules on many DR machines, in its short form: a real control server, machines
that speak the real protocol, and nothing lost, doubled or refused. How fast it is is not looked at:
``make bench ONLY=scale`` does that."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import scale

SHAPE = argparse.Namespace(rules=120, machines=6, per_source=20, burst=60, interval=300, seconds=20,
                           transfer_ms=500, retention=3)


def test_the_bench_in_small(tmp_path: Path, database: str | None) -> None:
    with scale.bench_on(SHAPE, tmp_path, database, lambda: 0, None) as bench:
        figures = scale.measure(bench)
        assert bench.players.errors == []
        ran = [rule for _, kind, rule, _ in bench.players.seen if kind == "replicate"]
    assert len(ran) >= SHAPE.burst + 2
    assert set(figures) >= {"start_lag_p99_s", "list_p95_ms", "dispatch_per_s", "server_rss_mib"}
    assert all(value >= 0.0 for value in figures.values())


def test_a_percentile_is_a_value_that_was_found() -> None:
    assert scale.percentile([float(n) for n in range(1, 101)], 0.95) == 95.0
    assert scale.percentile([3.0], 0.99) == 3.0
