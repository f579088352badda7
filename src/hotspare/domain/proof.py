"""What a test of a restore point looks for in the copy that it boots, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

State = Literal["passed", "failed", "skipped"]
Verdict = Literal["passed", "failed", "unproven"]

LARGEST_SCREENSHOT: Final = 1024 * 1024
"""Bytes of a PNG that is kept."""


@dataclass(frozen=True, slots=True)
class Checklist:
    """What is to be looked for. ``None``: when the machine can show it."""

    heartbeat: bool | None = None   # its agent answers
    screen: bool | None = None      # its screen is not blank, and changes
    text: str = ""                  # stands on the screen
    ping: bool = False              # it answers in the isolated network
    ports: tuple[int, ...] = ()     # of TCP, that take a connection there
    address: str = ""               # ADDRESS/PREFIX that it has by itself; empty: by DHCP
    boot_s: float = 180.0           # seconds that all of it may take

    @property
    def reached(self) -> bool:
        """Whether the copy has to be reached through its network."""
        return self.ping or bool(self.ports)


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one of them. ``code`` and ``fields`` tell why. One that was ``asked`` for and
    could not be made leaves the verdict open; one that ``proves`` cannot pass on a machine that
    has not booted."""

    name: str
    state: State
    code: str
    fields: dict[str, Any] = field(default_factory=dict)
    asked: bool = True
    proves: bool = True


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """``passed`` needs something that only a machine that has booted can do, or that the operator
    said is enough; nothing that failed; and nothing that was asked for and not done."""
    if any(c.state == "failed" for c in checks):
        return "failed"
    open_ = any(c.asked and c.state == "skipped" for c in checks)
    proven = any(c.state == "passed" and (c.proves or c.asked) for c in checks)
    return "passed" if proven and not open_ else "unproven"
