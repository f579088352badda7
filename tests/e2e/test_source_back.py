"""A source that comes back after a failover: noticed, told, and taken off its network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from .rig import Rig, hotspare, wait_for


def links(rig: Rig) -> set[str]:
    """States of the links of the source's cards, as it runs and as it will start."""
    found = set()
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        for part in rig.guest.domain().XMLDesc(flags).split("<interface")[1:]:
            card = part.split("</interface>")[0]
            found.add("down" if "<link state='down'/>" in card else "up")
    return found


@pytest.mark.timeout(300)
def test_a_source_that_comes_back_is_told_and_unplugged(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(boot="kernel", rate=5.0, network="user")
    rig.protect()
    rig.run()
    refused = hotspare(rig.server, "source", "unplug", rig.rule, "--json")
    assert refused.json["error"]["code"] == "source.in-use"
    rig.guest.destroy()
    done = hotspare(rig.server, "failover", rig.rule, "--wait", "--json")
    assert done.exit == 0, done.err + rig.story()

    def shown(power: str) -> Callable[[], Any]:
        def look() -> Any:
            with rig.server.client() as client:
                rule = client.rule(rig.rule)
            return rule if rule["source_power"] == power else None

        return look

    off = wait_for(shown("off"), 60, "the source is seen to be off")
    assert off["both_run_since"] is None
    rig.guest.start()
    both = wait_for(shown("running"), 60, "the source is seen to run")
    assert both["state"] == "temporary-failover" and both["both_run_since"]
    told = hotspare(rig.server, "rule", "show", rig.rule).out
    assert f"hotspare source unplug {rig.rule}" in told.replace("\n", " ")
    with rig.server.client() as client:
        log = client.rule_log(rig.rule, level="error")
    assert [line["code"] for line in log] == ["rule.both-run"]

    assert links(rig) == {"up"}
    for _ in range(2):
        assert hotspare(rig.server, "source", "unplug", rig.rule, "--wait").exit == 0
        assert links(rig) == {"down"}
    assert hotspare(rig.server, "source", "plug", rig.rule, "--wait").exit == 0
    assert links(rig) == {"up"}

    # its host goes away: that is not known to be off
    rig.server.stop()
    rig.server.start()              # and what watches goes on after a restart
    rig.lab.a.kill()
    gone = wait_for(shown("unknown"), 90, "the source's host does not answer")
    assert gone["both_run_since"]
    rig.lab.a.start()
    wait_for(shown("running"), 90, "it is seen again")
    rig.guest.destroy()
    assert wait_for(shown("off"), 60, "it is off")["both_run_since"] is None
    assert hotspare(rig.server, "undo", rig.rule, "--wait").exit == 0

    def nothing_runs() -> bool:
        with rig.server.client() as client:
            return client.tasks(state="live") == []

    wait_for(nothing_runs, 30, "nobody is watched any more")
    assert rig.leftovers() == []
