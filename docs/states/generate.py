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
    lines += ["", "```mermaid", "stateDiagram-v2", "    [*] --> stopped"]
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
