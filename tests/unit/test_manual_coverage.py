"""docs/user/manual-coverage.md: every row of the manual is there, with tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/user/manual-coverage.md"
ROWS = {f"M{number}" for number in range(1, 24)}


def _lines() -> list[list[str]]:
    """The cells of each line of the page's tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in PAGE.read_text("utf-8").splitlines()
            if line.startswith("|") and not line.startswith(("|---", "| row ", "| what "))]


def test_every_row_of_the_manual_is_there() -> None:
    assert {cells[0] for cells in _lines() if re.fullmatch(r"M\d+", cells[0])} == ROWS


def test_every_line_names_tests_that_exist() -> None:
    wrong = []
    for cells in _lines():
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", cells[-1])
        if not named:
            wrong.append(cells)
        for path, name in named:
            text = (TESTS / path).read_text("utf-8") if (TESTS / path).exists() else ""
            if not (re.search(rf"def {name}\(", text) if name else "def test_" in text):
                wrong.append([path, name])
    assert not wrong
