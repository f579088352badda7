"""What the services have to know of each kind of platform before a DR machine has been asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """``points`` is the retention when none is given, ``max_points`` the largest (M9).
    ``no_lan_free`` is the code of the reason why LAN-free transport is not possible, or empty.
    ``sources`` are the kinds of platforms whose machines it runs as a target.
    ``other_networks``: what may be named beside the networks of its inventory, to connect a
    machine to."""

    points: int
    max_points: int
    smallest_interval_s: int
    sources: frozenset[str]
    no_lan_free: str = ""
    other_networks: re.Pattern[str] | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "libvirt": Kind(points=7, max_points=100, smallest_interval_s=10,
                    sources=frozenset({"libvirt", "vsphere"}),
                    no_lan_free="rule.lan-free-kvm",
                    other_networks=re.compile(r"user|bridge:[A-Za-z0-9._-]{1,15}")),
    # 32 snapshots a machine are the platform's limit (design, section 5); each takes a snapshot
    # made and removed, which is tens of seconds.
    "vsphere": Kind(points=3, max_points=28, smallest_interval_s=60,
                    sources=frozenset({"vsphere"})),
}
