"""The faults, one after another or side by side, each with its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from random import Random

from testbeds.kvm import SessionHost, procs

from .processes import Machine
from .stage import Stage

Undo = Callable[[], object]


class Faults:
    """What is broken is not broken again before it is mended."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.counts: dict[str, int] = {}
        self._broken: dict[str, tuple[float, Undo]] = {}     # what: until when, how it is mended
        kinds: list[tuple[Callable[[Random], bool], int]] = [
            (self.kill_server, 3), (self.restart_server, 1), (self.kill_libvirtd, 3),
            (self.kill_receiver, 6), (self.kill_helper, 3), (self.kill_guest, 2)]
        if stage.machines:
            kinds += [(self.kill_worker, 4), (self.restart_worker, 1), (self.pause_worker, 2),
                      (self.cut, 4), (self.restart_postgres, 2)]
        self._kinds = [kind for kind, _ in kinds]
        self._weights = [weight for _, weight in kinds]
        self._next = 0.0

    def last(self, seconds: float) -> None:
        """Break and mend for so long; then all is mended. To be called by a thread that stays:
        PostgreSQL ends with the one that started it."""
        dice = Random(f"{self.stage.seed}/faults")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._turn(dice)
            time.sleep(0.1)
        self._mend(float("inf"))

    def _turn(self, dice: Random) -> None:
        self._mend(time.monotonic())
        if time.monotonic() < self._next:
            return
        for _ in range(10):
            kind = dice.choices(self._kinds, self._weights)[0]
            if kind(dice):
                self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
                break
        self._next = time.monotonic() + dice.uniform(*self.stage.size.gap_s)

    def _mend(self, now: float) -> None:
        for what, (until, undo) in list(self._broken.items()):
            if now >= until:
                self.stage.tell(f"fault: {what} ends")
                undo()
                del self._broken[what]

    def _begin(self, what: str, dice: Random, longest_s: float, undo: Undo, how: str = "") -> bool:
        lasts = dice.uniform(0.0, longest_s)
        self.stage.tell(f"fault: {what} {how} for {lasts:.1f} s")
        self._broken[what] = time.monotonic() + lasts, undo
        return True

    # --- processes -----------------------------------------------------------------------------

    def kill_server(self, dice: Random) -> bool:
        if "server" in self._broken:
            return False
        self.stage.server.kill()
        return self._begin("server", dice, 5.0, self.stage.server.start, "kill -9")

    def restart_server(self, dice: Random) -> bool:
        if "server" in self._broken:
            return False
        self.stage.server.stop()
        return self._begin("server", dice, 2.0, self.stage.server.start, "stopped")

    def _worker(self, dice: Random) -> Machine | None:
        fit = [m for m in self.stage.machines.values() if m.name not in self._broken]
        return dice.choice(fit) if fit else None

    def kill_worker(self, dice: Random) -> bool:
        machine = self._worker(dice)
        if machine is None:
            return False
        machine.kill()
        return self._begin(machine.name, dice, self.stage.size.longest_s / 3, machine.start,
                           "kill -9")

    def restart_worker(self, dice: Random) -> bool:
        machine = self._worker(dice)
        if machine is None:
            return False
        machine.stop()
        return self._begin(machine.name, dice, 2.0, machine.start, "stopped")

    def pause_worker(self, dice: Random) -> bool:
        machine = self._worker(dice)
        if machine is None:
            return False
        machine.signal(signal.SIGSTOP)
        return self._begin(machine.name, dice, self.stage.size.longest_s,
                           lambda: machine.signal(signal.SIGCONT), "SIGSTOP")

    def cut(self, dice: Random) -> bool:
        machine = dice.choice(list(self.stage.machines.values()))
        what = f"way of {machine.name}"
        if what in self._broken:
            return False
        drop = dice.random() < 0.5
        (machine.way.drop if drop else machine.way.refuse)()
        return self._begin(what, dice, self.stage.size.longest_s, machine.way.mend,
                           "drops" if drop else "refuses")

    def restart_postgres(self, dice: Random) -> bool:
        if "server" in self._broken:
            return False            # it would be started while there is no database
        assert self.stage.postgres is not None
        how = dice.choice((signal.SIGINT, signal.SIGQUIT))
        self.stage.tell(f"fault: PostgreSQL {how.name}")
        self.stage.postgres.stop(how)
        time.sleep(dice.uniform(0.0, 3.0))
        self.stage.postgres.start()
        return True

    # --- hosts ---------------------------------------------------------------------------------

    def kill_libvirtd(self, dice: Random) -> bool:
        host = dice.choice((self.stage.lab.a, self.stage.lab.b))
        how = dice.choice((signal.SIGKILL, signal.SIGTERM))
        self.stage.tell(f"fault: libvirtd of {host.name} {how.name}")
        host.kill(how)
        time.sleep(dice.uniform(0.0, 2.0))
        host.start()
        return True

    def _kill_domain(self, dice: Random, host: SessionHost, of: str, but: str = "-") -> bool:
        found = sorted((name, pid) for name, pid in host.qemu_pids().items()
                       if name.startswith(of) and not name.startswith(but))
        if not found:
            return False
        name, pid = dice.choice(found)
        self.stage.tell(f"fault: kill -9 of {name} on {host.name}")
        procs.send(pid, signal.SIGKILL)
        return True

    def kill_receiver(self, dice: Random) -> bool:
        return self._kill_domain(dice, self.stage.lab.b, "hs-rx-")

    def kill_helper(self, dice: Random) -> bool:
        return self._kill_domain(dice, self.stage.lab.a, "hs-rx-src-")

    def kill_guest(self, dice: Random) -> bool:
        vm = dice.choice(list(self.stage.vms.values()))
        if not vm.kill9():
            return False
        self.stage.tell(f"fault: kill -9 of {vm.name}")
        return True
