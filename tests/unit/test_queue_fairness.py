"""Who is next: by turns between hosts, oldest first in a host, nobody for ever; and cheaply."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from hotspare.domain.rule_states import Event
from hotspare.services import dispatcher, ends, queue
from hotspare.services.context import SERVICE
from hotspare.store import schema
from unit.queue_rig import T, Yard, yard
from unit.service_rig import ADMIN

MIB = 1 << 20


def run_out(here: Yard, tasks: dict[int, str], most: int = 10_000) -> list[int]:
    """End begun tasks, the longest running first, until none is left; the order of dispatch."""
    order: list[int] = []
    for _ in range(most):
        begun = [row.id for row in here.tasks() if row.id in tasks]
        order += [task for task in begun if task not in order]
        if not begun:
            return order
        here.now[0] += 1
        here.end(begun[0])
    raise AssertionError("not all ended")


@pytest.mark.parametrize("slots", [1, 4])
def test_a_host_with_many_rules_does_not_delay_another(tmp_path: Path, database: str | None,
                                                       slots: int) -> None:
    with yard(tmp_path, database) as here:
        here.machine("m", max_tasks=slots)
        many = here.start_all(here.rules(60, "a", "t", "m"))
        few = here.start_all(here.rules(3, "b", "u", "m"))
        order = run_out(here, many | few)
        assert len(order) == 63
        places = [order.index(task) for task in few]
        assert max(places) <= slots + 6             # by turns with a's, behind those that ran
        assert [t for t in order if t in many] == sorted(many)      # oldest first


def test_many_targets_of_one_host_are_one_turn(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m", max_tasks=1)
        many: dict[int, str] = {}
        for n in range(10):
            many |= here.start_all(here.rules(3, "a", f"t{n}", "m"))
        few = here.start_all(here.rules(4, "b", "u", "m"))
        order = run_out(here, many | few)
        assert max(order.index(task) for task in few) <= 9


def test_a_host_that_comes_again_and_again_does_not_starve_another(tmp_path: Path) -> None:
    """One slot; b always has one rule queued, a has thirty. Each gets every second turn."""
    with yard(tmp_path) as here:
        here.machine("m", max_tasks=1)
        b = here.rules(2, "b", "t", "m")
        here.start(b[0])
        here.start_all(here.rules(30, "a", "t", "m"))
        here.start(b[1])
        sources: list[str] = []
        for _ in range(40):
            [row] = here.tasks()
            sources.append(row.source_host)
            here.now[0] += 1
            here.end(row.id)
            if row.rule in b:
                here.start(row.rule)
        assert Counter(sources)["id-a"] >= 19


def test_machines_take_turns_at_a_host_that_they_share(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m1", max_tasks=4)
        here.machine("m2", max_tasks=4)
        here.services.settings.set(ADMIN, 1)
        many = here.start_all(here.rules(30, "a", "t", "m1"))
        few = here.start_all(here.rules(3, "b", "t", "m2"))
        order = run_out(here, many | few)
        assert max(order.index(task) for task in few) <= 7


def test_the_place_is_the_order_in_which_they_are_served(tmp_path: Path,
                                                         database: str | None) -> None:
    with yard(tmp_path, database) as here:
        here.machine("m", max_tasks=1)
        tasks = here.start_all(here.rules(5, "a", "t", "m"))
        tasks |= here.start_all(here.rules(3, "b", "t", "m"))
        first = here.tasks()[0].id
        with here.services.context.read() as conn:
            waits = queue.waits(conn, tasks)
        assert {w["code"] for w in waits.values()} == {"queue.machine-full"}
        promised = sorted(waits, key=lambda t: waits[t]["fields"]["place"])
        assert [waits[t]["fields"]["place"] for t in promised] == list(range(1, 8))
        assert run_out(here, tasks) == [first, *promised]


def test_a_big_buffer_is_not_passed_by_for_ever(tmp_path: Path) -> None:
    """One machine wants 16 MiB at once, the other's tasks of 8 MiB always fill the gap."""
    with yard(tmp_path) as here:
        here.machine("wide", max_tasks=8)               # so that eight a host are in force
        here.machine("small", max_tasks=4, transfer_buffer=8 * MIB)
        here.machine("big", max_tasks=2, transfer_buffer=16 * MIB)
        here.services.settings.set(ADMIN, 8)
        here.start_all(here.rules(40, "a", "t", "small"))
        big = here.start(here.rules(1, "b", "t", "big")[0])
        assert here.reason(big)["code"] == "queue.host-bytes"
        ended = 0
        while big not in [row.id for row in here.tasks()]:
            here.now[0] += dispatcher.PATIENCE_S / 4
            here.end(here.tasks()[0].id)
            ended += 1
        assert 1 < ended < 12


def test_a_removal_goes_before_runs(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m", max_tasks=1)
        tasks = here.start_all(here.rules(3, "a", "t", "m"))
        [rule] = here.rules(1, "a", "t", "m")
        with here.services.context.change() as change:
            removal = queue.enqueue(change, "check", SERVICE, machine="m", platform="00000001")
        assert removal in [row.id for row in here.tasks()]      # not counted
        with here.services.context.change() as change:
            queue.move(change, rule, Event.REMOVE)
            removal = queue.enqueue(change, "remove", SERVICE, machine="m", rule=rule, epoch=1)
        assert run_out(here, tasks | {removal: rule})[1] == removal


def test_a_queued_rule_that_is_moved_queues_there(tmp_path: Path) -> None:
    with yard(tmp_path) as here:
        here.machine("m1", max_tasks=1)
        here.machine("m2", max_tasks=1)
        here.machine("wide", max_tasks=4)               # so that four a host are in force
        first, second, third = here.rules(3, "a", "t", "m1")
        tasks = list(here.start_all([first, second, third]))
        here.services.moves.rule(ADMIN, second, "m2")
        assert [row.machine for row in here.tasks()] == ["m1", "m2"]
        here.services.moves.rule(ADMIN, third, "m2")
        assert here.reason(tasks[2])["fields"]["machine"] == "m2"
        here.end(tasks[1])
        assert tasks[2] in here.newest(2)


# --- cost ----------------------------------------------------------------------------------------


def steps(here: Yard, call: Any) -> int:
    """Hundreds of instructions of SQLite's machine that ``call`` takes."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    with here.services.context.change() as change:
        dbapi = change.conn.connection.dbapi_connection
        assert dbapi is not None
        dbapi.set_progress_handler(count, 10)
        try:
            call(change)
        finally:
            dbapi.set_progress_handler(None, 0)
    return counted


def test_what_a_dispatch_costs_does_not_grow_with_the_queue(tmp_path: Path) -> None:
    """By SQLite's own count of work. The rate is by processor time, as the test's host is shared:
    an idle one does more than 200 a second."""
    with yard(tmp_path) as here:
        machines = [f"m{n}" for n in range(20)]
        for machine in machines:
            here.machine(machine, max_tasks=4)
        lines = [here.rules(500, f"a{n}", f"t{n % 7}", m) for n, m in enumerate(machines)]

        def one_round(change: Any) -> None:
            row = change.conn.execute(sa.select(T).where(T.c.id == here.newest(1)[0])).one()
            ends.end(change, row, "ok", error=None, figures={})

        def cost() -> int:
            here.now[0] += 1
            return min(steps(here, one_round) for _ in range(5))

        for line in lines:
            here.start_all(line[:20])
        few = cost()
        for line in lines:
            here.start_all(line[20:])
        assert len(here.tasks("queued")) > 9_900
        many = cost()
        assert many <= few * 1.3, (many, few)

        begun = [row.id for row in here.tasks()]
        assert len(begun) == 28                     # four at each of seven targets
        began, count = time.process_time(), 200
        for _ in range(count):
            here.now[0] += 1
            here.end(begun.pop(0))
            begun += here.newest(1)
        rate = count / (time.process_time() - began)
        assert len(here.tasks()) == 28
        print(f"{rate:.0f} dispatches a second with 10,000 queued")
        assert rate >= 60, rate


# --- whatever happens ----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
                min_size=1, max_size=25),
       st.lists(st.integers(0, 30), max_size=40), st.integers(1, 5))
def test_limits_hold_and_everything_runs(tmp_path_factory: pytest.TempPathFactory,
                                         wanted: list[tuple[int, int, int]], ends: list[int],
                                         per_host: int) -> None:
    buffers = {"m0": (4, 8 * MIB), "m1": (2, 16 * MIB), "m2": (3, 1 * MIB)}
    with yard(tmp_path_factory.mktemp("yard")) as here:
        for name, (most, buffer) in buffers.items():
            here.machine(name, max_tasks=most, transfer_buffer=buffer)
        here.services.settings.set(ADMIN, per_host)
        tasks: dict[int, str] = {}

        def check() -> None:
            begun = here.tasks()
            machines, hosts, flying = Counter[str](), Counter[str](), Counter[str]()
            for row in begun:
                machines[row.machine] += 1
                for host in {row.source_host, row.target_host}:
                    hosts[host] += 1
                    flying[host] += row.buffer
            assert all(n <= buffers[m][0] for m, n in machines.items())
            assert max(hosts.values(), default=0) <= min(per_host, 4)
            assert max(flying.values(), default=0) <= 32 * MIB
            with here.services.context.change() as change:
                assert queue.dispatch(change) == []     # nothing that could run waits

        for machine, source, target in wanted:
            [rule] = here.rules(1, f"h{source}", f"h{target}", f"m{machine}")
            tasks |= here.start_all([rule])
            check()
            if ends and (begun := here.tasks()):
                here.end(begun[ends.pop() % len(begun)].id)
                here.now[0] += 50
                check()
        run_out(here, tasks)
        assert not here.tasks("queued")
        with here.services.context.read() as conn:
            assert conn.execute(sa.select(sa.func.count()).select_from(schema.lane)).scalar() == 0
