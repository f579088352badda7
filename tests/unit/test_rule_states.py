"""The state table: complete, closed, and honest about what is not allowed."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotspare.domain import rule_states as rs
from hotspare.domain.rule_states import Event, IllegalTransition, Operation, RuleState

states = st.sampled_from(RuleState)
events = st.sampled_from(Event)


def test_every_state_of_the_manual_is_there_with_its_word() -> None:
    assert set(rs.CHINESE) == set(RuleState)
    assert {word for state, word in rs.CHINESE.items() if state not in rs.FAILBACK} == {
        "启动", "排队中", "创建新虚机", "获取虚机配置", "查询变化数据", "执行中", "停止", "失效",
        "完成", "空闲", "恢复快照", "快照清除", "临时切换", "永久切换"}


@given(states, events, st.none() | states)
def test_advance_is_the_table_and_an_illegal_event_raises(
        state: RuleState, event: Event, before: RuleState | None) -> None:
    wanted = rs.TRANSITIONS.get((state, event))
    if wanted is None or (wanted is rs.BEFORE and before is None):
        with pytest.raises(IllegalTransition) as caught:
            rs.advance(state, event, before)
        assert caught.value.fields == {"state": state.value, "event": event.value}
    else:
        assert rs.advance(state, event, before) == (before if wanted is rs.BEFORE else wanted)


@given(st.lists(events, max_size=60), st.booleans())
def test_any_walk_stays_in_the_table(walk: list[Event], live: bool) -> None:
    """Own state and state before, kept as the services keep them: no walk reaches a state from
    which there is no way on, and none loses the state before."""
    own, before = RuleState.STOPPED, None
    for event in walk:
        if event in rs.SHOWN:
            continue
        try:
            to = rs.advance(own, event, before)
        except IllegalTransition:
            continue
        if event in rs.SAVES_BEFORE:
            before = own
        own = to
        shown = rs.visible(own, live)
        assert shown == own or (not live and shown is RuleState.INVALID
                                and own not in rs.FAILOVER)
        assert any(s is own for s, _ in rs.TRANSITIONS)


@given(states, st.booleans(), st.booleans(), st.booleans())
def test_what_is_shown(own: RuleState, live: bool, busy: bool, periodic: bool) -> None:
    """Failover states win over invalid, invalid over the rest; M15's idle of a one-off rule."""
    shown = rs.visible(own, live, busy, periodic)
    if own in rs.FAILOVER:
        assert shown is own
    elif not live:
        assert shown is RuleState.INVALID
    elif own is RuleState.QUEUED and busy and not periodic:
        assert shown is RuleState.IDLE
    else:
        assert shown is own


def test_every_state_but_started_is_reached_and_all_are_left() -> None:
    reached = {to for to in rs.TRANSITIONS.values() if isinstance(to, RuleState)}
    assert reached == set(RuleState)
    assert {state for state, _ in rs.TRANSITIONS} == set(RuleState)


def test_failover_and_undo_return_to_the_state_before() -> None:
    for before in rs.RESTING:
        state = rs.advance(before, Event.FAIL_OVER)
        assert rs.advance(state, Event.FAILOVER_FAILED, before) is before
        state = rs.advance(state, Event.FAILED_OVER)
        assert state is RuleState.TEMPORARY_FAILOVER
        state = rs.advance(state, Event.UNDO)
        assert rs.advance(state, Event.CLEAR_FAILED) is RuleState.TEMPORARY_FAILOVER
        assert rs.advance(state, Event.UNDONE, before) is before


@given(states, st.booleans(),
       st.none() | st.sampled_from(["replicate", "failover", "undo", "remove"]),
       st.sets(st.sampled_from(["test", "scrub"])))
def test_operations_agree_with_the_table(state: RuleState, has_point: bool,
                                         live: str | None, side: set[str]) -> None:
    allowed = rs.operations(state, has_point, live, side=side)
    assert Operation.LOG in allowed
    if live is not None:
        assert allowed <= {Operation.LOG, Operation.STOP, Operation.TEST}
    if side:
        assert not allowed & {Operation.DELETE, Operation.PERMANENT}
        assert allowed | {Operation.DELETE, Operation.PERMANENT, Operation.TEST} >= (
            rs.operations(state, has_point, live)), "all else goes on"
    assert (Operation.TEST in allowed) == (
        has_point and state not in {RuleState.PERMANENT_FAILOVER, RuleState.INVALID}
        and live not in {"failover", "remove"} and "test" not in side)
    for operation, event in ((Operation.START, Event.START), (Operation.FAILOVER, Event.FAIL_OVER),
                             (Operation.UNDO, Event.UNDO)):
        if operation in allowed:
            assert (state, event) in rs.TRANSITIONS
    if state is RuleState.TEMPORARY_FAILOVER:
        assert not allowed & {Operation.START, Operation.DELETE, Operation.FAILOVER}
    if not has_point:
        assert Operation.FAILOVER not in allowed
    if state is RuleState.PERMANENT_FAILOVER:
        assert allowed - {Operation.STOP} <= {Operation.LOG, Operation.DELETE}


def test_a_refusal_has_a_text() -> None:
    from hotspare.domain.messages import catalogue

    texts = catalogue()
    for state in RuleState:
        for live in (None, "replicate", "failover", "undo", "remove"):
            for operation in Operation:
                code = rs.refusal(operation, state, True, live)
                assert code is None or texts[code].exit == 4


def test_the_documented_diagram_is_current() -> None:
    folder = Path(__file__).parents[2] / "docs" / "states"
    made = runpy.run_path(str(folder / "generate.py"))["text"]()
    assert (folder / "rule.md").read_text() == made, "run: python docs/states/generate.py"
