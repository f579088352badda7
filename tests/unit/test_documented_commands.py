"""Every command that the pages for users show is one that the program has, with these options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hotspare.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/user").glob("*.md"))]
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(hotspare [^`]+)`", re.DOTALL)


def commands(page: Path) -> Iterator[str]:
    text = page.read_text()
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            shown = re.sub(r"^\s*(?:[#$] )*(?:\$?\.?[\w./]*)(?=hotspare )", "", line)
            if shown.startswith("hotspare "):
                yield shown
    for shown in _INLINE.findall(_BLOCK.sub("", text)):
        yield " ".join(shown.split())


def check(line: str) -> str:
    """What is wrong with a command, or nothing."""
    typed = re.split(r"[#|]", line, maxsplit=1)[0]
    words = shlex.split(typed.replace("…", " "))[1:]
    command: Any = typer.main.get_command(app)
    while words and getattr(command, "commands", None) is not None:
        name = words.pop(0)
        if name.startswith("-"):
            words = words[1:] if name == "--language" else words
            continue
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    wrong = [w.split("=")[0] for w in words if re.match(r"--\w", w)
             and w.split("=")[0] not in known | {"--help", "--version"}]
    return f"no option {wrong[0]}" if wrong else ""


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_documented_commands_exist(page: Path) -> None:
    found = {line: problem for line in commands(page) if (problem := check(line))}
    assert found == {}


def test_some_were_found() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 100


def test_a_wrong_one_is_seen() -> None:
    assert check("hotspare failover web --planed") == "no option --planed"
    assert check("hotspare failbak start web") == "no command failbak"
    assert check("hotspare failback undo web --confirm srv-web --wait") == ""
