"""What is wrong with a restore point: extents of its disks, in the JSON form in which a task finds
it, the catalogue keeps it, and the next run is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from .extents import Extent, bounded, merge, subtract, total, union

Damage = Mapping[str, list[list[int]]]
"""``[[offset, length], …]`` by disk, sorted and disjoint, in bytes; a disk without is left out."""

MOST: Final = 1000
"""Extents of a disk; where there would be more, they are rounded out: to mend too much is right."""
_NO_END: Final = 1 << 62


def damage_of(wrong: Mapping[str, Iterable[Extent]]) -> Damage:
    listed = {disk: [list(e) for e in bounded(extents, _NO_END, MOST)]
              for disk, extents in wrong.items()}
    return {disk: extents for disk, extents in listed.items() if extents}


def extents_of(damage: Damage, disk: str) -> Iterator[Extent]:
    """Raises ValueError for what is not sorted, TypeError for what is no pair."""
    return merge(Extent(*pair) for pair in damage.get(disk, ()))


def united(*damages: Damage) -> Damage:
    disks = {disk: None for damage in damages for disk in damage}
    return damage_of({disk: union(*(extents_of(d, disk) for d in damages)) for disk in disks})


def without(damage: Damage, mended: Damage) -> Damage:
    return damage_of({disk: subtract(extents_of(damage, disk), extents_of(mended, disk))
                      for disk in damage})


def size_of(damage: Damage) -> int:
    """Bytes."""
    return sum(total(extents_of(damage, disk)) for disk in damage)
