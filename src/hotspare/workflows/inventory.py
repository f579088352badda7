"""Check a platform's connection, and read its places and machines."""

from __future__ import annotations

from ..domain.codec import encode
from ..domain.errors import GiveUp
from .bench import Bench
from .steps import Json, Step, Workflow


def platform_id(bench: Bench) -> str:
    if bench.task.platform is None:
        raise GiveUp("task.no-platform", task=bench.task.id)
    return bench.task.platform


def _check(bench: Bench, _context: Json) -> None:
    report = bench.platform(platform_id(bench)).inventory.check()
    bench.link.inventory(bench.task, {"connection": encode(report)})


def _refresh(bench: Bench, _context: Json) -> None:
    inventory = bench.platform(platform_id(bench)).inventory
    report = inventory.check()
    places = [encode(place) for place in inventory.places()]
    vms = [encode(vm) for vm in inventory.vms()]
    bench.link.inventory(bench.task, {"connection": encode(report), "places": places, "vms": vms})
    bench.count(vms=len(vms), places=len(places))


CHECK = Workflow((Step("check", _check),))
REFRESH = Workflow((Step("refresh", _refresh),))
