"""The option of a source machine's configuration that says how far a failback to it has come."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pyVmomi import vim

from ...domain.errors import ForeignChange
from ..port import Intent
from .connection import Connection
from .machine_write import reconfigure
from .replica import options_of


def _key(origin: Intent) -> str:
    return f"hotspare.undo.{origin}"


@dataclass(frozen=True, slots=True)
class Mark:
    """``epoch``: the newest that was here. ``storage``: the datastore with the failback's files.
    ``begun``: the undo was made, so it has to be there. ``sealed``: the instant at which the last
    session left the disks; empty: it was not closed in order, or another one came."""

    epoch: int
    storage: str
    begun: bool = False
    sealed: str = ""

    @staticmethod
    def of(config: Any, origin: Intent) -> Mark | None:
        """Raises ForeignChange ``undo.mark`` when it is not ours."""
        value = options_of(config).get(_key(origin), "")
        if not value:
            return None
        try:
            found = json.loads(value)
            return Mark(int(found["epoch"]), str(found["storage"]), bool(found["begun"]),
                        str(found["sealed"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ForeignChange("undo.mark", vm=config.name, option=_key(origin)) from error

    def write(self, connection: Connection, machine: Any, config: Any, origin: Intent) -> None:
        """Into the configuration that was read as ``config``. Raises Retry ``source.busy`` when
        it has changed since."""
        reconfigure(connection, machine, vim.vm.ConfigSpec(
            changeVersion=config.changeVersion, extraConfig=[vim.option.OptionValue(
                key=_key(origin), value=json.dumps(asdict(self)))]))

    @staticmethod
    def remove(connection: Connection, machine: Any, origin: Intent) -> None:
        reconfigure(connection, machine, vim.vm.ConfigSpec(
            extraConfig=[vim.option.OptionValue(key=_key(origin), value="")]))
