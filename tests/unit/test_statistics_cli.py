"""Statistics, metrics and history at the command line, over the real API (M16, M17)."""

from __future__ import annotations

import csv
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hotspare.domain.errors import Refused
from unit.service_rig import Served, prepared, rig, served
from unit.test_cli import Cli

PLACE = ["--source", "src", "--target", "dst", "--storage", "default"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with rig(prepared(tmp_path)) as made, served(made) as it:
        yield it


@pytest.fixture
def cli(server: Served, tmp_path: Path) -> Cli:
    token = server.rig.services.users.local_token()
    return Cli(tmp_path, {"HOTSPARE_SERVER": server.url, "HOTSPARE_CA": str(server.ca),
                          "HOTSPARE_TOKEN": token})


def test_of_a_rule_of_a_group_and_of_all(server: Served, cli: Cli, tmp_path: Path) -> None:
    cli("group", "create", "shop", "--vm", "web0", "--vm", "web1", *PLACE, "--every", "1h")
    cli("rule", "create", "lone", "--vm", "web2", *PLACE)
    cli("group", "start", "shop", "--wait")
    server.rig.player.fail["replicate"] = Refused("storage.busy", storage="x")
    cli("rule", "start", "shop-web0", "--wait", code=1)
    server.rig.player.fail.clear()

    shown = cli("rule", "statistics", "shop-web0").stdout
    for part in ("1 ok", "1 failed", "50.0 % good", "RPO", "kept", "1, holding 1.0 MiB"):
        assert part in shown, (part, shown)
    one = cli.json("rule", "statistics", "shop-web0", "--days", "1")
    assert (one["total"]["ok"], one["total"]["failed"], one["total"]["success_ratio"]) == (1, 1, .5)
    assert one["rpo"]["kept"] and 0 <= one["rpo"]["age_s"] < one["rpo"]["target_s"]
    assert (one["points"], one["stored"], one["size"]) == (1, 1 << 20, 1 << 30)

    group = cli.json("group", "statistics", "shop")
    assert (group["rules"], group["total"]["ok"], group["total"]["failed"]) == (2, 2, 1)
    assert group["rpo"] | {"oldest_age_s": 0} == {
        "watched": 2, "violated": 0, "unprotected": 0, "oldest_age_s": 0}
    assert group["storages"][0]["stored"] == group["stored"] == 2 << 20
    assert "2 idle" in cli("group", "statistics", "shop").stdout
    assert "66.7 % good" in cli("group", "statistics", "shop").stdout
    everything = cli.json("statistics")
    assert (everything["rules"], everything["rpo"]["unprotected"]) == (3, 1)
    assert "without a point" in cli("statistics").stdout

    for words in (["rule", "statistics", "shop-web0"], ["group", "statistics", "shop"],
                  ["statistics"]):
        cli(*words, "--csv", str(tmp_path / "days.csv"))
        with (tmp_path / "days.csv").open(encoding="utf-8-sig", newline="") as file:
            [row] = csv.DictReader(file)
        assert row["failed"] == "1"
    cli("rule", "statistics", "none", code=3)
    cli("group", "statistics", "none", code=3)
    cli("statistics", "--days", "0", code=2)

    # the log of a rule, as M16 has it beside the statistics
    said = cli("rule", "log", "shop-web0").stdout
    assert "[storage.busy]" in said and "ERROR" in said
    assert "ERROR" in cli("rule", "log", "shop-web0", "--level", "error").stdout


def test_the_scraper_s_token_and_the_history(server: Served, cli: Cli) -> None:
    made = cli("metrics", "token").stdout.strip()
    with httpx.Client(base_url=server.url, trust_env=False, headers={
            "Authorization": f"Bearer {made}"},
            verify=ssl.create_default_context(cafile=str(server.ca))) as http:
        assert "hotspare_rules{" in http.get("/metrics").text
        assert http.get("/metrics", params={"rules": "false"}).status_code == 200
        assert cli("metrics", "token").stdout.strip() != made
        assert http.get("/metrics").status_code == 401, "the one before has ended"
    assert cli.json("settings", "history") == {
        "task_days": 90, "least_tasks": 20, "audit_days": 730, "statistics_days": 1096}
    assert cli.json("settings", "history", "--task-days", "30")["task_days"] == 30
    assert "30" in cli("settings", "history").stdout
    cli("settings", "history", "--task-days", "0", code=2)
    assert cli.json("settings", "history")["task_days"] == 30
