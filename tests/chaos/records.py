"""What the disks of a machine hold: numbered records, so that a copy can be judged.

Each write is a *record* of 4 KiB with a number that grows over all disks of the machine, at a place
that follows from the number. A record is begun only when the one before is durable. So a copy of
the disks is of one instant if and only if it holds exactly the records 1 to n for some n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RECORD = 4096
SIZE = 8 << 20
SLOTS = SIZE // RECORD
_LINE = 64
_RUN = 8                        # records on one disk before the next disk's turn


class Wrong(AssertionError):
    """The content of disks is of no one instant."""


@dataclass(frozen=True)
class Records:
    """``stride`` (odd): slots from one record of a disk to the next."""

    name: str
    disks: int
    stride: int

    def line(self, record: int) -> bytes:
        """What a record is made of, over and over."""
        return f"{self.name:<31.31} {record:>31}\n".encode()

    def place(self, record: int) -> tuple[int, int]:
        """The disk of a record, and its slot there."""
        run, rest = divmod(record - 1, _RUN)
        turn, disk = divmod(run, self.disks)
        return disk, (turn * _RUN + rest) * self.stride % SLOTS

    def content(self, records: int) -> list[bytes]:
        """What the disks hold after the records 1 to ``records``."""
        disks = [bytearray(SIZE) for _ in range(self.disks)]
        for record in range(max(1, records - (SLOTS + _RUN) * len(disks)), records + 1):
            disk, slot = self.place(record)
            disks[disk][slot * RECORD:(slot + 1) * RECORD] = (
                self.line(record) * (RECORD // _LINE))
        return [bytes(disk) for disk in disks]

    def judge(self, disks: Sequence[bytes]) -> int:
        """n, when the disks hold exactly the records 1 to n. Raises Wrong."""
        found: dict[tuple[int, int], int] = {}
        for disk, content in enumerate(disks):
            if len(content) != SIZE:
                raise Wrong(f"{self.name}: disk {disk} has {len(content)} bytes")
            for slot in range(SLOTS):
                head = content[slot * RECORD:slot * RECORD + _LINE]
                if head.startswith(self.name.encode()) and head[31:].strip().isdigit():
                    found[disk, slot] = int(head[31:])
        last = max(found.values(), default=0)
        for disk, (is_, should) in enumerate(zip(disks, self.content(last), strict=True)):
            for slot in range(SLOTS if is_ != should else 0):
                at = slice(slot * RECORD, (slot + 1) * RECORD)
                if is_[at] != should[at]:
                    raise Wrong(f"{self.name}: the newest record is {last}, and disk {disk} slot "
                                f"{slot} has {is_[at][:_LINE]!r} instead of "
                                f"{should[at][:_LINE]!r}")
        return last
