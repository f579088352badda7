"""The source platform of rules that are failed over: is one of their machines back? And its network
cables."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from ..domain.errors import HotspareError
from ..domain.machine import Power
from .bench import Bench
from .inventory import platform_id
from .steps import Json, Step, Workflow

EVERY_S: Final = 30.0
_PATIENCE_S: Final = 10.0
"""A host that is lost may not answer for minutes: that it does not is news, too."""


def _watch(bench: Bench, _context: Json) -> None:
    """Until the server stops the task: nobody is to be watched any more."""
    look = _Look(bench, platform_id(bench))
    while True:
        bench.link.inventory(bench.task, {"power": look.now()})
        bench.wait(EVERY_S)


class _Look:
    """One look at a time: one that hangs is not joined by others."""

    def __init__(self, bench: Bench, platform: str) -> None:
        self._bench, self._platform = bench, platform
        self._thread: threading.Thread | None = None
        self._found: Mapping[str, Power] | None = None

    def now(self) -> Mapping[str, Power] | None:
        """Machines that are not off; None when the platform does not answer."""
        if self._thread is None or not self._thread.is_alive():
            self._found = None
            self._thread = threading.Thread(target=self._ask, name="source-watch", daemon=True)
            self._thread.start()
        self._thread.join(_PATIENCE_S)
        return None if self._thread.is_alive() else self._found

    def _ask(self) -> None:
        tools = self._bench.tools
        try:
            access = self._bench.link.access(self._platform)
            platform = tools.borrow(access)
        except HotspareError:
            return
        try:
            self._found = {ref: power for ref, power in platform.inventory.powers().items()
                           if power != "off"}
        except HotspareError:
            tools.give_back(access, platform, False)
        else:
            tools.give_back(access, platform, True)


def _plug(bench: Bench, _context: Json) -> None:
    plugged = bool(bench.task.arguments["plugged"])
    bench.source.source.plug(bench.rule.vm, plugged)
    bench.say("source.plugged" if plugged else "source.unplugged", vm=bench.rule.vm)


WATCH = Workflow((Step("watch", _watch),))
CABLE = Workflow((Step("cable", _plug),))
