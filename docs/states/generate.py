"""Writes docs/states/rule.md from the table that the program runs on (run by hand; a test checks
that the file is current)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from hotspare.domain.rule_states import (
    CHINESE,
    RESTING,
    TRANSITIONS,
    Before,
    Operation,
    RuleState,
    operations,
)

NOTES = """\
What is shown is the rule's own state, with two exceptions. While its DR machine does not answer,
a rule is *invalid* unless it is failed over. While its DR machine reports itself busy or not
ready, a one-off rule that was started and waits for it is *idle*: the manual says
非周期性任务，在npsvr或备机繁忙的情况下规则状态显示为“空闲”. A rule that waits for a limit (tasks
of a DR machine, rules against a host, bytes in flight) is *queued*, of either kind, since the
manual has 排队中 for a task that queues; docs/user/limits.md has the limits.

*Idle* is otherwise a periodic rule's only, between its runs and whatever the last one ended like;
*finished* is a one-off rule's only, whose run ended well. A one-off run that failed or was
stopped leaves the rule *stopped*. An edit that makes a periodic rule a one-off one, or the other
way, leaves a rule at rest *stopped*, with its schedule off; one that runs ends as what it is
then; one that is failed over comes back *stopped*.

Beside the state stand the last result (ok, warning, failed, stopped, with its error), a pause
with its reason and its end, what a queued run waits for with its place in the queue, and the
phase: the step of the task that runs, with its per cent. The events machine-lost, machine-back,
machine-busy and machine-ready move what is shown only.""".splitlines()


def text() -> str:
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (state, event), to in TRANSITIONS.items():
        names = sorted(s.value for s in RESTING) if isinstance(to, Before) else [to.value]
        for name in names:
            label = f"{event.value} (back to before)" if isinstance(to, Before) else event.value
            edges[state.value, name].append(label)
    lines = ["# States of a rule", "",
             "Made by `docs/states/generate.py` from `hotspare.domain.rule_states`.", "",
             "| state | manual | possible operations, with a point and nothing running |",
             "|---|---|---|"]
    for state in RuleState:
        allowed = operations(state, True, None)
        lines.append(f"| {state.value} | {CHINESE[state]} | "
                     f"{', '.join(o.value for o in Operation if o in allowed)} |")
    lines += ["", *NOTES, "", "```mermaid", "stateDiagram-v2", "    [*] --> stopped"]
    for (start, end), events in sorted(edges.items()):
        lines.append(f"    {start.replace('-', '_')} --> {end.replace('-', '_')}: "
                     f"{', '.join(sorted(events))}")
    lines += ["```", "", "| state | event | next |", "|---|---|---|"]
    for (state, event), to in sorted(TRANSITIONS.items()):
        shown = "the state before" if isinstance(to, Before) else to.value
        lines.append(f"| {state.value} | {event.value} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("rule.md").write_text(text())
