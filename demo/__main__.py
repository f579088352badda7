"""Replicate a real guest between two libvirt hosts, fail over, undo, go on. Leaves nothing behind.

Everything is done with the ``hotspare`` command, as a user would; the commands are printed.
"""

from __future__ import annotations

import sys
import time

from testbeds.kvm import Lab

from .stage import Console, DemoError, play, say, tell_points, title

GUEST = "web01"


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


if __name__ == "__main__":
    sys.exit(play(story, __doc__ or ""))
