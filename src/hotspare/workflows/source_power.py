"""Whether the source machine still runs: asked before there are two of it, and switched off."""

from __future__ import annotations

import threading
from typing import Literal

from ..domain.errors import HotspareError
from ..domain.machine import Power
from .bench import Bench
from .steps import Json, Step, Workflow

_PATIENCE_S = 4.0
"""A host that is lost may not answer for minutes, and the failover is for just that case."""


def power_of_source(bench: Bench) -> Power | Literal["unknown"]:
    """``unknown``: its platform does not answer, or does not know the machine any more."""
    found: list[Power] = []

    def ask() -> None:
        try:
            access = bench.link.access(bench.rule.source)
            platform = bench.tools.borrow(access)
        except HotspareError:
            return
        try:
            found.append(platform.source.power(bench.rule.vm))
        except HotspareError as error:
            bench.tools.give_back(access, platform, error.action != "reconnect")
        else:
            bench.tools.give_back(access, platform, True)

    asking = threading.Thread(target=ask, name="source-power", daemon=True)
    asking.start()
    asking.join(_PATIENCE_S)
    return found[0] if found else "unknown"


def _shut_down(bench: Bench, context: Json) -> None:
    arguments = bench.task.arguments
    bench.source.source.shut_down(bench.rule.vm, float(arguments["grace_s"]),
                                  bool(arguments["power_off"]))
    bench.say("planned.source-off", vm=bench.source.source.inspect(bench.rule.vm).name)


SHUT_DOWN = Workflow((Step("shut-down-source", _shut_down),))
