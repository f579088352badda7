"""What the demos share: the hotspare command as a user runs it, shown with what it prints."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbeds.kvm import Lab, TestbedError, detect_accel

HOTSPARE = str(Path(sys.executable).with_name("hotspare"))


class DemoError(Exception):
    """Something did not happen as promised."""


_told: list[str] = []


def say(text: str) -> None:
    print(text, flush=True)
    _told.append(text)


def picture(path: Path, title: str) -> None:
    """Save what was told as an SVG, for the README."""
    from rich.console import Console as Terminal
    from rich.text import Text

    with Path(os.devnull).open("w") as nowhere:
        terminal = Terminal(record=True, width=100, file=nowhere)
        for line in "\n".join(_told).splitlines():
            style = "bold" if line.startswith("==") else "cyan" if line.startswith("$") else ""
            terminal.print(Text(line, style=style), crop=False, overflow="ellipsis", no_wrap=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        terminal.save_svg(str(path), title=title)


def title(text: str) -> None:
    say(f"\n== {text}")


class Console:
    """Runs the hotspare command against the demo's server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = dict(os.environ) | {"HOTSPARE_STATE_DIR": str(directory / "state")}
        self.server: subprocess.Popen[str] | None = None

    def up(self) -> None:
        say(f"$ hotspare up --state-dir {self.directory}/state --temp-dir {self.directory}/temp")
        self.server = subprocess.Popen(
            [HOTSPARE, "up", "--state-dir", str(self.directory / "state"), "--temp-dir",
             str(self.directory / "temp"), "--listen", "127.0.0.1:0", "--json"],
            stdout=subprocess.PIPE, text=True, env=self.environment)
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        if not line:
            raise DemoError("hotspare up ended before it was ready; its error is printed above")
        say(f"  ready at {json.loads(line).get('url')}")

    def down(self) -> None:
        if self.server is None or self.server.poll() is not None:
            return
        self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(15)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def run(self, *arguments: str, fails: bool = False, **environment: str) -> None:
        """Show the command and what it prints; ``fails``: it has to."""
        say("$ hotspare " + shlex.join(arguments))
        done = subprocess.run([HOTSPARE, *arguments], check=False, stdout=subprocess.PIPE,
                              env=self.environment | environment, text=True)
        say(done.stdout.rstrip())
        if bool(done.returncode) is not fails:
            raise DemoError(f"hotspare {arguments[0]} ended with exit code {done.returncode}")

    def ask(self, *arguments: str) -> Any:
        """The command's JSON answer, without showing it."""
        done = subprocess.run([HOTSPARE, *arguments, "--json"], check=True, env=self.environment,
                              stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    def points(self, rule: str) -> list[dict[str, Any]]:
        answer = self.ask("point", "list", rule)
        return sorted(answer, key=lambda point: int(point["number"]))

    def wait_points(self, rule: str, newest: int, timeout_s: float = 180) -> list[dict[str, Any]]:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            points = self.points(rule)
            if points and points[-1]["number"] >= newest:
                return points
            time.sleep(0.5)
        raise DemoError(f"restore point {newest} of {rule} did not come within {timeout_s:.0f} s; "
                        f"see hotspare task list")


def tell_points(points: list[dict[str, Any]]) -> None:
    for point in points:
        say(f"  point {point['number']:>3}  {point['consistency']:<9} "
            f"{point['moved'] / 2**20:8.2f} MiB moved")


def play(story: Callable[[Lab, Console, int], None], description: str) -> int:
    """Tell a story between two hosts of the test bed; leaves nothing behind. The exit status."""
    parser = argparse.ArgumentParser(prog="demo", description=description)
    parser.add_argument("--points", type=int, default=4, help="restore points before failover")
    parser.add_argument("--svg", type=Path, help="save what is shown as a picture")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    accel = detect_accel()
    say("Guests run under "
        + ("KVM." if accel == "kvm" else "software emulation (KVM does not work here)."))
    directory = Path(tempfile.mkdtemp(prefix="hs-demo-"))
    console = Console(directory)
    try:
        with Lab() as lab:
            try:
                story(lab, console, arguments.points)
            finally:
                title("Cleaning up")
                console.down()
        say("  guests, hosts, server and files are gone")
        if arguments.svg:
            picture(arguments.svg, "make demo")
    except KeyboardInterrupt:
        say("  stopped by Ctrl-C; nothing is left behind")
        return 130
    except (DemoError, TestbedError, TimeoutError, subprocess.CalledProcessError) as error:
        say(f"The demo failed: {error}")
        return 1
    finally:
        console.down()
        shutil.rmtree(directory, ignore_errors=True)
    return 0

