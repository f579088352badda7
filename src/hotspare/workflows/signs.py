"""Signs of life of a test's copy: each is looked for until it shows, and the rest is judged when
the time is over."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ..domain.lineage import Manifest
from ..domain.proof import Check, Checklist, State
from ..platforms.port import Isolation, Rehearsal, Running, Screen
from . import probes

_NO_BOOT: Final = re.compile(
    r"no bootable device|boot failed|not a bootable|operating system not found"
    r"|missing operating system|kernel panic|grub rescue|bootmgr is missing|emergency mode"
    r"|booting from hard disk\.*\s*\Z",
    re.IGNORECASE)
"""What firmware, boot loaders and kernels say when it went no further."""


@dataclass
class Sign:
    """``look`` returns a code and fields when it shows, None while it does not."""

    name: str
    look: Callable[[], tuple[str, dict[str, Any]] | None]
    missing: tuple[str, dict[str, Any]]     # code and fields when it has not shown
    asked: bool = True
    found: Check | None = None

    def at_end(self) -> Check:
        """One that nobody asked for is no failure when it does not show."""
        code, fields = self.missing
        return self.found or Check(self.name, "failed" if self.asked else "skipped", code, fields,
                                   asked=self.asked)


@dataclass
class Signs:
    """All that one test looks for. ``checks`` are those that are settled from the beginning."""

    wanted: Checklist
    signs: list[Sign] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    screen: Screen | None = None            # the last one that was seen
    _kinds: set[int] = field(default_factory=set)

    def look(self) -> bool:
        """Look once at all that has not shown yet; whether there is nothing more to wait for."""
        for sign in self.signs:
            if sign.found is None and (seen := sign.look()) is not None:
                sign.found = Check(sign.name, "passed", *seen, asked=sign.asked)
        return bool(self.signs) and all(s.found for s in self.signs)

    def see(self, screen: Screen | None) -> None:
        """The screen as it is now."""
        if screen is not None:
            self.screen = screen
            self._kinds.add(hash(screen.png if screen.text is None else screen.text))

    def at_end(self) -> list[Check]:
        found = [*self.checks, *(s.at_end() for s in self.signs)]
        if self.wanted.screen is not False:
            found.append(self._judged(any(c.proves and c.state == "passed" for c in found)))
        return found

    def _judged(self, lives: bool) -> Check:
        """What the screen says. Beside a machine that has shown otherwise that it lives, one that
        is blank is no failure: it may use its serial console only."""
        asked = self.wanted.screen is True

        def said(code: str, good: bool = False, **fields: Any) -> Check:
            missed = asked or not (lives or self.screen is None)
            state: State = "passed" if good else "failed" if missed else "skipped"
            return Check("screen", state, code, fields, asked=asked, proves=False)

        screen = self.screen
        if screen is None:
            return said("test.no-screen")
        if screen.blank:
            return said("test.screen-blank")
        words = _NO_BOOT.search(screen.text or "")
        if words is not None and not lives:
            return said("test.screen-no-boot", words=words.group())
        if len(self._kinds) < 2:
            return said("test.screen-still", line=_last_line(screen))
        return said("test.screen-lives", good=True, line=_last_line(screen))


def signs_of(wanted: Checklist, point: Manifest, isolation: Isolation, rehearsal: Rehearsal,
             running: Running) -> Signs:
    """What is to be looked for in a copy of ``point``."""
    signs = Signs(wanted)
    if isolation.connected:
        signs.checks.append(Check("network", "passed", "test.isolated", {}, asked=False,
                                  proves=False))
    elif point.vm.nics:
        signs.checks.append(Check("network", "skipped", "test.unplugged",
                                  {"reason": isolation.reason}, asked=False, proves=False))
    _heartbeat(signs, point, rehearsal, running)
    if wanted.text:
        signs.signs.append(Sign(
            "text", lambda: ("test.text-seen", {"text": wanted.text})
            if signs.screen and wanted.text in (signs.screen.text or "") else None,
            ("test.text-missing", {"text": wanted.text})))
    if wanted.reached:
        _network(signs, isolation, rehearsal, running)
    return signs


def _heartbeat(signs: Signs, point: Manifest, rehearsal: Rehearsal, running: Running) -> None:
    """An agent that froze the file systems for the point works in the guest. Of one that has only
    its channel nobody knows: it is not missed, unless it was asked for. A machine of VMware is
    given the channel on KVM, and what was quiesced by VMware's agent may have no other."""
    asked, foreign = signs.wanted.heartbeat, point.vm.virt not in rehearsal.virts
    if asked is False or (asked is None and not (point.vm.agent or foreign)):
        return
    if not (point.vm.agent or foreign):
        signs.checks.append(Check("heartbeat", "skipped", "test.no-agent"))
        return
    signs.signs.append(Sign(
        "heartbeat", lambda: ("test.heartbeat", {}) if rehearsal.heartbeat(running) else None,
        ("test.no-heartbeat", {}),
        asked=bool(asked) or (point.consistency == "quiesced" and not foreign)))


def _network(signs: Signs, isolation: Isolation, rehearsal: Rehearsal, running: Running) -> None:
    wanted, source = signs.wanted, isolation.address
    names = [*(["ping"] if wanted.ping else []), *(f"tcp-{port}" for port in wanted.ports)]
    if not source or not probes.is_ours(source):
        why = (("test.not-near", {}) if source else
               ("test.no-network", {"reason": isolation.reason}))
        signs.checks += [Check(name, "skipped", *why) for name in names]
        return

    def addresses() -> Iterator[str]:
        if wanted.address:
            yield str(ipaddress.ip_interface(wanted.address).ip)
        else:
            yield from rehearsal.addresses(running)

    def first(answers: Callable[[str], bool], code: str, **fields: Any
              ) -> tuple[str, dict[str, Any]] | None:
        for address in addresses():
            if answers(address):
                return code, {"address": address} | fields
        return None

    if wanted.ping:
        signs.signs.append(Sign(
            "ping", lambda: first(lambda a: probes.echoes(a, source), "test.ping"),
            ("test.no-ping", {})))
    for port in wanted.ports:
        signs.signs.append(Sign(
            f"tcp-{port}", lambda port=port: first(  # type: ignore[misc]
                lambda a: probes.takes_connection(a, port, source), "test.tcp", port=port),
            ("test.no-tcp", {"port": port})))


def _last_line(screen: Screen) -> str:
    lines = [line.strip() for line in (screen.text or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""
