"""The rehearsal role: what a test of a restore point needs beside its copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .common import Intent, Leftover
from .standby import Running
from .target import ReplicaRef


@dataclass(frozen=True, slots=True)
class Isolation:
    """What keeps the copy of a test apart from all other machines; plain data."""

    networks: Mapping[str, str]     # for StartSpec: by the networks of the point's machine
    connected: bool                 # False: the platform has no such network, the cables are out
    reason: str = ""                # why it is less than was asked for
    address: str = ""               # of the host in the network, where it has one


@dataclass(frozen=True, slots=True)
class Screen:
    """What a machine shows just now."""

    png: bytes
    blank: bool                     # one colour, or a text screen without text
    text: str | None                # None: it is graphical


class Rehearsal(Protocol):
    """What a test needs beside :meth:`Standby.start` with the kind ``test``: the copy of a restore
    point meets nobody, is looked at, and leaves nothing. It may stand beside a failover and
    beside the session of a next point; a point that it stands on is pinned."""

    virts: frozenset[str]
    """What its own machines are, as :attr:`VmDescription.virt`: a guest of another kind has another
    hypervisor's agent."""

    def isolate(self, replica: ReplicaRef, number: int, reach: str | None,
                intent: Intent) -> Isolation:
        """Make networks for the copy of point ``number`` that nothing else is on, one for each
        that the machine had. With ``reach`` the host has an address in the first of them:
        ``dhcp`` in one of our own choice, which the copy gets an address of, or
        ``ADDRESS/PREFIX`` beside that one, which the copy has by itself. What the same intent
        made before is made anew: called before the copy is started."""
        ...

    def screen(self, running: Running) -> Screen | None:
        """None: the machine has no screen, or does not run."""
        ...

    def heartbeat(self, running: Running) -> bool | None:
        """Whether the guest's agent answers within a second. None: it has no agent's channel."""
        ...

    def addresses(self, running: Running) -> Sequence[str]:
        """IPv4 addresses that the copy took in its isolated networks."""
        ...

    def ended(self, running: Running) -> str:
        """How the machine went off: ``shut-down``, ``crashed``, ``other`` (not by itself), or
        empty while it runs."""
        ...

    def left(self, replica: ReplicaRef) -> Sequence[Intent]:
        """The intents of all tests of which something is at the target, one that runs with
        them."""
        ...

    def clear(self, replica: ReplicaRef, intent: Intent) -> list[Leftover]:
        """Power off, and remove all that was made for the test. Idempotent."""
        ...
