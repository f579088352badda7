"""Which restore point goes when a replica keeps more than it should."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def point_to_retire(points: Sequence[int], keep: int, pinned: Collection[int]) -> int | None:
    """The next point to fold away, or None.

    ``points`` are the numbers of the published points, oldest first. The newest ``keep`` points
    are never touched; of the others the oldest that nothing pins goes first, so a pinned point
    defers its own retirement and nobody else's."""
    if keep < 1:
        raise ValueError("at least one point is kept")
    return next((p for p in points[:-keep] if p not in pinned), None)
