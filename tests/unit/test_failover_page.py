"""The page for the night: each command on it is typed here, where it is meant to be typed."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.service_rig import ADMIN, OPERATOR, Rig, prepared, rig, served, wait_until
from unit.test_cli import Cli
from unit.test_documented_commands import ROOT, commands

_COMMENT = re.compile(r"\s+#.*")
PAGE = sorted({_COMMENT.sub("", line) for line in commands(ROOT / "docs/user/failover.md")}
              - {"hotspare rule show"})

FAILED_OVER, BULK_DONE, SWITCHED = "temporary-failover", "ready-to-switch", "failed-back"
BEFORE = {
    "hotspare source unplug web --wait": FAILED_OVER, "hotspare undo web --wait": FAILED_OVER,
    "hotspare undo web": FAILED_OVER, "hotspare permanent web --wait": FAILED_OVER,
    "hotspare failback start web --wait": FAILED_OVER, "hotspare rule stop web": "running",
    "hotspare failback start web --to site-c --storage default --wait": FAILED_OVER,
    "hotspare failback start web --to site-c --storage default --name srv-web2 --network "
    "lan=vlan7 --wait": FAILED_OVER,
    "hotspare failback switch web --wait": BULK_DONE,
    "hotspare failback switch web --commit-after 2h": BULK_DONE,
    "hotspare failback undo web --wait": BULK_DONE,
    "hotspare failback undo web --confirm srv-web --wait": SWITCHED,
    "hotspare failback commit web --wait": SWITCHED}
"""What the rule is at when a command is for something else than a rule at rest."""

AFTER = {
    "failover": FAILED_OVER, "undo": "finished", "permanent": "permanent-failover",
    "failback start": BULK_DONE, "failback switch": SWITCHED, "failback commit": "finished",
    "failback undo": FAILED_OVER}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = prepared(tmp_path_factory.mktemp("template"))
    with rig(folder) as made:
        there = made.services.platforms.add(ADMIN, name="site-c", kind="libvirt",
                                            uri="qemu+ssh://target-c/system")
        made.ended(there.task)
        wait_until(lambda: made.services.platforms.get(ADMIN, "site-c").refreshed_at)
    return folder


@pytest.fixture
def here(tmp_path: Path, template: Path) -> Iterator[Rig]:
    shutil.copytree(template, tmp_path / "state")
    with rig(tmp_path / "state") as made:
        yield made


def bring(here: Rig, state: str) -> None:
    """The rule to where it is typed."""
    rule, rules = here.rule("web"), here.services.rules
    here.run(rule)
    if state == "running":
        here.player.hold.set()
        rules.start(OPERATOR, rule)
        wait_until(lambda: here.state(rule) == "running")
        return
    for wanted, step in ((FAILED_OVER, lambda: rules.failover(OPERATOR, rule, None)),
                         (BULK_DONE, lambda: rules.failback(OPERATOR, rule)),
                         (SWITCHED, lambda: rules.switch_back(OPERATOR, rule))):
        if state in AFTER.values():
            here.ended(step())
        if state in {"", wanted}:
            break
    assert state in {"", here.state(rule)}


@pytest.mark.parametrize("command", PAGE)
def test_a_command_of_the_page(here: Rig, tmp_path: Path, command: str) -> None:
    bring(here, BEFORE.get(command, ""))
    # the machine of these tests has another name, and the rule one restore point
    words = shlex.split(command.replace("srv-web ", "web0 ").replace("--point 12", "--point 1"))
    with served(here) as server:
        cli = Cli(tmp_path, {"HOTSPARE_SERVER": server.url, "HOTSPARE_CA": str(server.ca),
                             "HOTSPARE_TOKEN": here.services.users.local_token()})
        cli(*words[1:], text="web0\n")
        here.player.hold.clear()
        rule = here.services.rules.get(ADMIN, "web").id
        here.settled(rule)
        what = next((w for w in AFTER if command.startswith(f"hotspare {w} ")), None)
        assert what is None or here.state(rule) == AFTER[what]


def test_nothing_is_named_that_the_page_does_not_have() -> None:
    assert set(BEFORE) <= set(PAGE)
