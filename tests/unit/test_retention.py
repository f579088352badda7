"""Which point goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotspare.domain.retention import point_to_retire

numbers = st.sets(st.integers(1, 200), max_size=40).map(sorted)


@given(numbers, st.integers(1, 40), st.sets(st.integers(1, 200), max_size=40))
def test_retiring_until_none_is_left(points: list[int], keep: int, pinned: set[int]) -> None:
    kept = list(points)
    gone = []
    while (number := point_to_retire(kept, keep, pinned)) is not None:
        gone.append(number)
        kept.remove(number)
    assert gone == sorted(gone)
    assert not set(gone) & pinned
    assert points[-keep:] == kept[-keep:]
    assert all(p in pinned for p in kept[:-keep])


def test_a_pin_defers_its_own_point_only() -> None:
    assert point_to_retire([1, 2, 3, 4], 2, {1}) == 2
    assert point_to_retire([1, 3, 4], 2, {1}) is None
    assert point_to_retire([1, 3, 4], 2, set()) == 1


def test_nothing_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        point_to_retire([1], 0, ())
