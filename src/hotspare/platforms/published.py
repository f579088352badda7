"""A point that is there already: what every target gives to the task that published it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from ..domain.errors import GiveUp, Refused
from ..domain.lineage import Lineage, Manifest
from .port import Export, NbdEndpoint


class PublishedSession:
    """What :meth:`Target.begin` gives to an intent whose point is there already: a task that was
    killed between its commit point and its end. Nothing can be written."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @property
    def number(self) -> int:
        return self._manifest.number

    @property
    def disks(self) -> Mapping[str, Export]:
        return {disk.id: _NoExport(self._manifest.number) for disk in self._manifest.disks}

    @property
    def resumed(self) -> bool:
        return True

    def publish(self, manifest: Manifest, digests: Path,
                firmware_state: bytes | None) -> Manifest:
        return self._manifest

    def abandon(self) -> None:
        """A published point is not dropped."""

    def close(self) -> None:
        """Nothing is open."""


class _NoExport:
    def __init__(self, number: int) -> None:
        self._number = number

    def open(self) -> AbstractContextManager[NbdEndpoint]:
        raise Refused("point.published", number=self._number)


def same_point(lineage: Lineage, manifest: Manifest) -> Manifest:
    """The published point of ``manifest``'s number if the same intent published it. Raises
    GiveUp ``point.conflict``."""
    there = lineage.point(manifest.number)
    if there is None or (there.epoch, there.task) != (manifest.epoch, manifest.task):
        raise GiveUp("point.conflict", number=manifest.number)
    return there
