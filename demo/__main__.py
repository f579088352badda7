"""Replicate a real guest between two libvirt hosts, fail over, undo, go on. Leaves nothing behind.

Everything is done with the ``hotspare`` command, as a user would; the commands are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from testbeds.kvm import Lab, TestbedError, detect_accel

HOTSPARE = str(Path(sys.executable).with_name("hotspare"))
GUEST = "web01"


class DemoError(Exception):
    """Something did not happen as promised."""


_told: list[str] = []


def say(text: str) -> None:
    print(text, flush=True)
    _told.append(text)


def picture(path: Path) -> None:
    """Save what was told as an SVG, for the README."""
    from rich.console import Console as Terminal
    from rich.text import Text

    with Path(os.devnull).open("w") as nowhere:
        terminal = Terminal(record=True, width=100, file=nowhere)
        for line in "\n".join(_told).splitlines():
            style = "bold" if line.startswith("==") else "cyan" if line.startswith("$") else ""
            terminal.print(Text(line, style=style), crop=False, overflow="ellipsis", no_wrap=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        terminal.save_svg(str(path), title="make demo")


def title(text: str) -> None:
    say(f"\n== {text}")


class Console:
    """Runs the hotspare command against the demo's server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = os.environ | {"HOTSPARE_STATE_DIR": str(directory / "state")}
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

    def run(self, *arguments: str) -> None:
        """Show the command and what it prints."""
        say("$ hotspare " + " ".join(arguments))
        done = subprocess.run([HOTSPARE, *arguments], check=False, env=self.environment,
                              stdout=subprocess.PIPE, text=True)
        say(done.stdout.rstrip())
        if done.returncode:
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


def story(lab: Lab, console: Console, points_wanted: int) -> None:
    began = time.monotonic()
    title("1. A guest that writes, on the first host")
    guest = lab.define_guest(lab.a, GUEST, rate=10.0)
    guest.start()
    guest.wait_ready()
    guest.wait_agent()
    say(f"  {GUEST} runs on host a; it adds 10 fsynced, hash-chained journal records a second")

    title("2. Hotspare: control server and one DR machine in one process")
    console.up()
    console.run("platform", "add", "site-a", lab.a.uri)
    console.run("platform", "add", "site-b", lab.b.uri)

    title("3. A rule: a full copy, then only what changes")
    pool = lab.pool_name(lab.b)
    console.run("rule", "create", "web", "--source", "site-a", "--vm", GUEST, "--target", "site-b",
                "--storage", pool, "--interval", "10s", "--retention", "5")
    console.run("rule", "start", "web", "--wait")
    points = console.wait_points("web", points_wanted)
    tell_points(points)

    title("4. Failover to a chosen restore point")
    chosen = points[-2]
    console.run("rule", "stop", "web")
    console.run("failover", "web", "--point", str(chosen["number"]), "--wait")
    replica = lab.guest(lab.b, GUEST)
    verified = replica.wait_ready()
    say(f"  the copy has booted on host b; VERIFY records={verified.records} "
        f"bad={int(verified.bad)}")
    if verified.bad:
        raise DemoError(f"the journal of the copy is broken: {verified}")

    title("5. Undo: the copy's own writes are thrown away, replication goes on")
    console.run("undo", "web", "--wait")
    newest = console.points("web")[-1]["number"]
    console.run("rule", "start", "web", "--wait")
    after = console.wait_points("web", newest + 2)
    tell_points(after[-2:])
    if not guest.running:
        raise DemoError("the source guest does not run any more")

    title("6. What was done")
    console.run("task", "list")
    say(f"\n  {time.monotonic() - began:.0f} s in all. The source wrote all the time and has "
        f"{guest.journal_count()} records now.")
    say("  By hand: make testbed, then README.md, section 'By hand'.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
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
            picture(arguments.svg)
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


if __name__ == "__main__":
    sys.exit(main())
