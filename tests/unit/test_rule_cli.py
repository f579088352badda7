"""Rules, groups, templates and platforms at the command line, over the real API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotspare.client import Client, Session
from unit.service_rig import ADMIN, Served, prepared, rig, served, wait_until
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


def test_all_settings_go_there_and_back(cli: Cli) -> None:
    made = cli.json(
        "rule", "create", "web", "--vm", "web0", *PLACE, "--network", "default=lan",
        "--machine", "local", "--temp-dir", "/var/tmp", "--weekly", "mon,thu@02:30", "--zone",
        "Asia/Shanghai", "--retention", "9", "--rpo", "7d", "--quiesce", "off",
        "--no-fast-transfer", "--no-lan-free", "--delete-with-rule", "--bandwidth",
        "mon-fri 09:00-18:00 10MiB", "--bandwidth", "sat,sun 0")
    assert made["schedule"] == {"kind": "weekly", "every_s": None, "at": "02:30",
                                "weekdays": [1, 4], "day": None}
    assert [(r["days"], r["limit"]) for r in made["bandwidth"]] == [
        ([1, 2, 3, 4, 5], 10 << 20), ([6, 7], 0)]
    assert (made["rpo_s"], made["retention"], made["retention_covers_s"]) == (
        604800, 9, 9 * 3.5 * 86400)
    shown = cli("rule", "show", "web").stdout
    for text in ("Mon, Thu at 02:30 Asia/Shanghai", "mon,tue,wed,thu,fri 09:00-18:00 10MiB",
                 "/var/tmp", "fast transfer", "DR machine"):
        assert text in shown, shown

    edited = cli.json("rule", "edit", "web", "--name", "www", "--every", "15m", "--bandwidth",
                      "none", "--rpo", "none", "--fast-transfer", "--keep-with-rule",
                      "--network", "none", "--revision", "1")
    assert (edited["name"], edited["schedule"]["every_s"], edited["bandwidth"], edited["rpo_s"],
            edited["fast_transfer"], edited["delete_replica"], edited["networks"],
            edited["revision"], edited["retention"]) == (
                "www", 900, [], None, True, False, {}, 2, 9)
    late = cli.json("rule", "edit", "www", "--retention", "3", "--revision", "1", code=4)
    assert late["error"]["code"] == "rule.edited"
    moved = cli("rule", "edit", "www", "--machine", "other", code=2)
    assert "rule move www" in moved.stderr
    assert cli.json("rule", "edit", "www", "--by-hand")["schedule"] is None
    cli("rule", "edit", "www", "--by-hand", "--daily", "02:30", code=2)
    several = cli("rule", "create", "x", "--vm", "web1", *PLACE[:4], "--storage", "defalt",
                  "--temp-dir", "x", code=2).stderr
    assert "no storage defalt on dst" in several and "Known there: default, lvm" in several
    assert "absolute path" in several                       # each cause with its remedy
    missing = cli.json("rule", "create", "x", "--vm", "web1", code=2)
    assert {"source", "target", "storage"} <= set(missing["error"]["fields"])


def test_the_mark_of_a_replicated_machine_in_both_languages(server: Served, cli: Cli) -> None:
    cli("rule", "create", "web", "--vm", "web0", *PLACE)
    assert "(replicated) by the rule web" in cli("platform", "vms", "src").stdout
    token = cli.environment["HOTSPARE_TOKEN"]
    with Client(Session(server.url, token, str(server.ca))) as client:
        client._http.headers["Accept-Language"] = "zh-CN"
        assert "(已复制) 规则 web" in [v["message"] for v in client.vms("src")]


def test_a_group_from_a_template(server: Served, cli: Cli) -> None:
    cli("template", "save", "daily", *PLACE, "--daily", "02:30", "--retention", "4")
    assert "daily at 02:30" in cli("template", "show", "daily").stdout
    assert "daily" in cli("template", "list").stdout
    group = ["group", "create", "shop", "--vm", "web0", "--vm", "web1", "--template", "daily"]
    made = cli.json(*group, "--retention", "5")
    assert (made["rules"], made["settings"]["retention"]) == (2, 5)
    assert "2 stopped" in cli("group", "list").stdout
    shown = cli("group", "show", "shop").stdout
    assert "source          src" in shown and "target          dst" in shown
    assert "daily at 02:30 UTC" in shown and "2 stopped" in shown
    server.rig.player.hold.set()
    cli("rule", "start", "shop-web0")
    wait_until(lambda: "running 50 %" in cli("rule", "list").stdout)
    assert re.search(r"(?m)^phase +transfer$", cli("rule", "show", "shop-web0").stdout)
    server.rig.player.hold.clear()
    wait_until(lambda: cli.json("rule", "show", "shop-web0")["state"] == "idle")
    assert cli("rule", "list", "--state", "stopped", "--text", "web0").stdout == "No such rule.\n"
    done = cli.json("group", "start", "shop", "--wait")
    assert [d["ok"] for d in done] == [True, True]
    assert [r["state"] for r in cli.json("rule", "list", "--group", "shop")] == ["idle"] * 2
    assert [r["name"] for r in cli.json("rule", "list", "--sort", "-name")] == [
        "shop-web1", "shop-web0"]
    cli("rule", "list", "--sort", "colour", code=2)

    several = cli("rule", "stop", "shop-web0", "none", code=3)
    assert "no rule none" in several.stdout
    assert cli.json("rule", "show", "shop-web0")["state"] == "stopped"
    cli("rule", "edit", "shop-web1", "--delete-with-rule")
    cli("group", "delete", "shop", code=1, text="n\n")          # a replica would go: asked
    cli("group", "stop", "shop", code=4)                        # one is stopped already
    assert all(d["ok"] for d in cli.json("group", "delete", "shop", "--yes", "--wait"))
    wait_until(lambda: cli.json("rule", "list") == [])
    assert [t.arguments["delete_replica"] for t in server.rig.player.begun[-2:]] == [False, True]
    cli("group", "show", "shop", code=3)
    cli("template", "delete", "daily")
    assert cli.json("template", "list") == []


def test_a_platform_is_edited(server: Served, cli: Cli, tmp_path: Path) -> None:
    cli("rule", "create", "web", "--vm", "web0", *PLACE)
    secret = tmp_path / "pw"
    secret.write_text("CANARY-pw")
    edited = cli.json("platform", "edit", "src", "--name", "kvm1", "--option", "socket_dir=/x",
                      "--password-file", str(secret))
    assert (edited["name"], edited["options"], edited["has_secret"], edited["state"]) == (
        "kvm1", {"socket_dir": "/x"}, True, "ok")
    edited = cli.json("platform", "edit", "kvm1", "--no-password", "--no-options")
    assert (edited["options"], edited["has_secret"]) == ({}, False)
    wrong = cli("platform", "edit", "kvm1", "--address", "qemu+ssh://elsewhere/system", code=4)
    assert "leads to another host" in wrong.stdout and "--accept-host" in wrong.stdout
    assert cli.json("platform", "edit", "kvm1", "--accept-host")["state"] == "ok"
    assert [a.action for a in server.rig.services.users.audit(ADMIN, 4).items] == [
        "platform.edit"] * 4
