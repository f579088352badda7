"""Blocks that are wrong at the target: what cannot be read is found, and what is to be mended is
sent whatever tracking and digests say."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import copy_disk
from hotspare.dataplane.plan import PlanRun
from hotspare.dataplane.verify import VerifyResult, verify_disk
from hotspare.domain.errors import Reconnect
from hotspare.domain.extents import BLOCK, Extent, total
from hotspare.platforms.port import Export, NbdEndpoint, Unknown

from .jobs import KEY, MIB, areas, make_job, make_plan
from .nbdservers import Servers
from .test_compare import SIZE, Pair

WRONG = [Extent(3 * BLOCK, 2 * BLOCK), Extent(10 * MIB, BLOCK), Extent(25 * MIB, BLOCK)]


@pytest.fixture
def pair(servers: Servers, tmp_path: Path) -> Pair:
    return Pair(servers, tmp_path)


def spoil(pair: Pair) -> None:
    """Of the three, the last is zero in the source and at the target, where it gets data."""
    with pair.out.open("r+b") as file:
        for offset, length in WRONG:
            file.seek(offset + 7)
            file.write(b"\x55" * (length - 7))


def verify(pair: Pair, export: Export, **more: object) -> VerifyResult:
    with pair.expected() as expected:
        return verify_disk(export, expected, KEY, Control(), disk="vda", directory=pair.path,
                           **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("compare", [True, False])
def test_what_is_to_be_mended_is_sent_though_its_digest_says_equal(pair: Pair, compare: bool
                                                                   ) -> None:
    spoil(pair)
    assert verify(pair, pair.target).mismatches == tuple(WRONG)
    pair.write((5 * MIB, b"new"))
    changes = Unknown("asked") if compare else areas((5 * MIB, 3))
    with pair.expected() as expected:
        expected.forget(WRONG)
        plan = make_plan(pair.path, pair.source, SIZE, instant="i2", fresh=False,
                         target_zero=False, changes=changes, also=WRONG,
                         expected=expected if compare else None)
        result = copy_disk(make_job(plan, pair.source, pair.target,
                                    compare_with=expected if compare else None), Control())
    assert pair.same()
    assert (result.bytes_written, result.zero_bytes) == (4 * BLOCK, BLOCK)


def test_also_is_united_with_the_changes_and_cut_at_the_end(pair: Pair) -> None:
    plan = make_plan(pair.path, pair.source, SIZE, instant="i3", fresh=False, target_zero=False,
                     changes=areas((BLOCK, 1), (SIZE - 1, 1)),
                     also=(Extent(0, 1), Extent(2 * BLOCK, 1), Extent(SIZE - 1, 10 * MIB)))
    assert list(plan) == [PlanRun(0, 3, False), PlanRun(SIZE // BLOCK, 1, False)]


def test_what_the_storage_cannot_read_is_wrong_and_only_that(servers: Servers, pair: Pair) -> None:
    bad = servers.nbdkit("-r", "--filter=error", "file", str(pair.out),
                         "error-pread-rate=100%", "error=EIO")
    found = verify(pair, bad.export, extents=[Extent(2 * BLOCK, 3 * BLOCK)])
    assert found.mismatches == (Extent(2 * BLOCK, 3 * BLOCK),)
    assert (found.wrong, found.bytes_read) == (3 * BLOCK, 0)
    # now and then: each block is read again for itself
    shaky = servers.nbdkit("-r", "--filter=error", "file", str(pair.out),
                           "error-pread-rate=20%", "error=EIO")
    assert total(verify(pair, shaky.export).mismatches) <= 8 * BLOCK


def test_a_reader_that_is_taken_away_again_and_again(servers: Servers, pair: Pair) -> None:
    """More often than attempts are made in a row, but it gets on."""
    class Taken:
        opened = 0

        @contextmanager
        def open(self) -> Iterator[NbdEndpoint]:
            self.opened += 1
            server = servers.nbdkit("-r", "--filter=rate", "file", str(pair.out), "rate=8M")
            timer = threading.Timer(0.25, lambda: server.send(signal.SIGKILL))
            if self.opened < 20:
                timer.start()
            with server.export.open() as endpoint:
                yield endpoint
            timer.cancel()

    taken = Taken()
    found = verify(pair, taken)
    assert found.mismatches == ()
    assert taken.opened > 6


def test_a_target_that_is_gone(pair: Pair) -> None:
    class Gone:
        def open(self) -> AbstractContextManager[NbdEndpoint]:
            raise Reconnect("receiver.gone", domain="x")

    with pytest.raises(Reconnect):
        verify(pair, Gone())
