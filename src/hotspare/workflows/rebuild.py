"""Read all replicas of a target anew, for a control server that lost its database or brought an
older one back. Changes nothing there."""

from __future__ import annotations

from ..domain.codec import encode
from ..domain.errors import GiveUp, HotspareError
from ..platforms.port import Platform, ReplicaRef
from .bench import Bench
from .inventory import platform_id
from .link import FoundReplica
from .steps import Json, Step, Workflow

_FORGED = "lineage.forged"


def _read(bench: Bench, context: Json) -> None:
    platform = bench.platform(platform_id(bench))
    for place in platform.inventory.places():
        if place.kind == "storage" and not place.usable:
            bench.say("rebuild.storage-skipped", "warning", storage=place.name,
                      reason=place.reason)
    found = sorted(((_taken_at(bench, platform, r), r) for r in platform.inventory.replicas()),
                   key=lambda pair: pair[0], reverse=True)
    codes: list[str] = []
    points = 0
    # The newest first: of two replicas of one machine it is the one that goes on.
    for done, (_, replica) in enumerate(found):
        bench.check_stop()
        bench.progress("read-replicas", done, len(found))
        look = _look(bench, platform, replica)
        if look.error is not None:
            codes.append(look.error["code"])
        elif look.lineage is not None:
            points += len(look.lineage.points)
        bench.link.inventory(bench.task, {"replicas": [encode(look)]})
    if codes and codes == [_FORGED] * len(found):
        raise GiveUp("rebuild.key-wrong", count=len(found))
    if codes:
        context["warnings"] = codes
    context["figures"] = {"replicas": len(found), "points": points}


def _taken_at(bench: Bench, platform: Platform, replica: ReplicaRef) -> float:
    lineage = _look(bench, platform, replica).lineage
    return lineage.head.taken_at if lineage is not None and lineage.head is not None else 0.0


def _look(bench: Bench, platform: Platform, replica: ReplicaRef) -> FoundReplica:
    try:
        key = bench.link.rule_key(replica.rule)
        return FoundReplica(replica, platform.target(key).lineage(replica),
                            platform.standby(key).find(replica))
    except HotspareError as error:
        if error.action != "give_up":
            raise
        return FoundReplica(replica, error=error.as_dict())


WORKFLOW = Workflow((Step("read-replicas", _read),))
