"""What follows from what a test saw."""

from __future__ import annotations

from typing import Any

import pytest

from hotspare.domain.proof import Check, Checklist, Verdict, verdict_of
from hotspare.platforms.port import Screen
from hotspare.workflows.signs import Sign, Signs


def check(state: Any, asked: bool = True, proves: bool = True) -> Check:
    return Check("x", state, "test.x", asked=asked, proves=proves)


@pytest.mark.parametrize(("checks", "verdict"), [
    ([], "unproven"),
    ([check("passed")], "passed"),
    ([check("passed", asked=False)], "passed"),
    ([check("passed"), check("failed")], "failed"),
    ([check("passed"), check("skipped")], "unproven"),                      # asked, not done
    ([check("passed"), check("skipped", asked=False)], "passed"),
    ([check("passed", asked=False, proves=False)], "unproven"),             # the screen alone
    ([check("passed", asked=True, proves=False)], "passed"),                # is enough if asked
    ([check("skipped", asked=False)], "unproven"),
    ([check("failed", asked=False, proves=False)], "failed")])
def test_verdicts(checks: list[Check], verdict: Verdict) -> None:
    assert verdict_of(checks) == verdict


def text(*lines: str) -> Screen:
    said = "\n".join(lines)
    return Screen(b"png", not said, said)


def graphics(png: bytes, blank: bool = False) -> Screen:
    return Screen(png, blank, None)


BOOTED = [text("GRUB"), text("web1 login:")]


@pytest.mark.parametrize(("screens", "lives", "asked", "state", "code"), [
    (BOOTED, False, True, "passed", "test.screen-lives"),
    (BOOTED, False, None, "passed", "test.screen-lives"),
    ([], False, None, "skipped", "test.no-screen"),
    ([], False, True, "failed", "test.no-screen"),
    ([text("GRUB"), text("")], False, None, "failed", "test.screen-blank"),
    ([text("GRUB"), text("")], True, None, "skipped", "test.screen-blank"),     # serial only
    ([text("GRUB"), text("")], True, True, "failed", "test.screen-blank"),
    ([text("GRUB"), text("GRUB")], False, None, "failed", "test.screen-still"),
    ([graphics(b"a"), graphics(b"a")], True, None, "skipped", "test.screen-still"),
    ([graphics(b"a"), graphics(b"b")], False, None, "passed", "test.screen-lives"),
    ([graphics(b"a"), graphics(b"b", blank=True)], False, None, "failed", "test.screen-blank"),
    ([text("SeaBIOS"), text("Booting", "No bootable device.")], False, None, "failed",
     "test.screen-no-boot"),
    ([text("SeaBIOS"), text("Booting from Hard Disk...")], False, True, "failed",
     "test.screen-no-boot"),
    # one device was no boot disk, the next one was
    ([text("SeaBIOS"), text("Boot failed: not a bootable disk", "login:")], True, None, "passed",
     "test.screen-lives")])
def test_screens(screens: list[Screen], lives: bool, asked: bool | None, state: str,
                 code: str) -> None:
    signs = Signs(Checklist(screen=asked))
    if lives:
        signs.checks.append(Check("heartbeat", "passed", "test.heartbeat"))
    for seen in screens:
        signs.see(seen)
    [found] = [c for c in signs.at_end() if c.name == "screen"]
    assert (found.state, found.code) == (state, code)


def test_no_screen_is_looked_for() -> None:
    assert Signs(Checklist(screen=False)).at_end() == []


def test_a_sign_that_was_not_asked_for_is_not_missed() -> None:
    seen: list[Any] = [None, ("test.heartbeat", {})]
    signs = Signs(Checklist(screen=False), [
        Sign("late", lambda: seen.pop(0), ("test.no-heartbeat", {})),
        Sign("never", lambda: None, ("test.no-ping", {}), asked=False)])
    assert not signs.look() and not signs.look() and not signs.look()
    assert [(c.name, c.state) for c in signs.at_end()] == [("late", "passed"), ("never", "skipped")]
    assert verdict_of(signs.at_end()) == "passed"
