"""The source machine is started again after a failback, with tracking begun before it runs.

A snapshot of the intent's name is the base that all its writes count from, as that of a run is; the
next run that is published removes it.
"""

from __future__ import annotations

import time

from ...domain.errors import Refused
from ...faultpoints import fault_point
from ..port import Intent, Token
from . import power, snapshots, tracking
from .connection import Connection
from .machines import find_machine


def power_on(connection: Connection, vm: str, intent: Intent) -> Token | None:
    """See :meth:`WriteBack.power_on`."""
    machine = find_machine(connection, vm)
    state = power.power_of(connection, machine)
    if state == "paused":
        raise Refused("source.saved", vm=vm)
    name = str(intent)
    base = snapshots.names(connection, machine).get(name)
    if state == "off":
        if base is None:
            tracking.enable(connection, machine)
            base = snapshots.create(connection, machine, intent, False, {
                "taken_at": time.time(), "consistency": "off", "note": "", "power": "off"}).ref
            fault_point("switched.after-base")
        power.power_on(connection, machine)
    return None if base is None else tracking.token(
        name, connection.read(base, "config")["config"])
