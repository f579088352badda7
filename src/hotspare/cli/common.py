"""What all commands share: output for people or as JSON, errors to exit codes, secrets."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..domain.errors import HotspareError, Refused
from ..domain.messages import text_of

if TYPE_CHECKING:
    from ..client import Client

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for scripts.")]

_DURATION = re.compile(r"(\d+)\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def emit(data: Any) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def fail(error: HotspareError, as_json: bool) -> NoReturn:
    """Say the error and end with its code. With --json it is said on standard output."""
    data = error.as_dict()
    if as_json:
        emit({"error": data})
    else:
        typer.secho(f"Error: {data['message']}", fg="red", err=True)
        if data["remedy"]:
            typer.echo(f"  {data['remedy']}", err=True)
    raise typer.Exit(exit_code(error.code))


def exit_code(code: str) -> int:
    return text_of(code, {}).exit


@contextmanager
def errors(as_json: bool) -> Iterator[None]:
    try:
        yield
    except HotspareError as error:
        fail(error, as_json)


@contextmanager
def connected(as_json: bool) -> Iterator[Client]:
    """A client of the server that this user works with; its errors end the command."""
    from ..client import Client, find_session

    with errors(as_json), Client(find_session()) as client:
        yield client


def secret(option: str, file: Path | None, variable: str, prompt: str, *,
           confirm: bool = False) -> str:
    """From the file, the environment, or the terminal; never from the command line, which
    other users can read."""
    if file is not None:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Refused("input.file", path=str(file),
                          why=getattr(error, "strerror", None) or "it is no text") from error
        return text.rstrip("\r\n")
    from_environment = os.environ.get(variable)
    if from_environment is not None:
        return from_environment
    if not sys.stdin.isatty():
        raise Refused("input.secret-source", option=option, variable=variable)
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))


def duration(text: str) -> int:
    """``90``, ``90s``, ``15m``, ``2h``, ``1d`` in seconds."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter("use for example 30s, 15m, 2h or 1d")
    return int(match[1]) * _SECONDS[match[2]]


def pairs(items: list[str]) -> dict[str, str]:
    """``a=b`` options as a dictionary."""
    result = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{item!r} is not of the form NAME=VALUE")
        result[key] = value
    return result


# --- text for people ---------------------------------------------------------------------------


def table(columns: list[str], rows: list[list[str]], empty: str) -> None:
    """A table as wide as the terminal; piped, its lines are not cut."""
    if not rows:
        typer.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)


def facts(items: list[tuple[str, str]]) -> None:
    width = max((len(name) for name, value in items if value), default=0)
    for name, value in items:
        if value:
            typer.echo(f"{name:<{width}}  {value}")


def size(count: float | None) -> str:
    """IEC bytes."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def when(at: float | None) -> str:
    if at is None:
        return "-"
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def ago(at: float | None) -> str:
    if at is None:
        return "-"
    import time

    seconds = time.time() - at
    return f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"


Show = Callable[[Any], None]


def answer(data: Any, as_json: bool, show: Show) -> None:
    if as_json:
        emit(data)
    else:
        show(data)
