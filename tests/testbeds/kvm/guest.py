"""One guest of a lab: start it, talk to it, break it, read what it verified."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import libvirt
import libvirt_qemu

from . import procs
from .errors import TestbedError
from .host import SessionHost

_VERIFY = re.compile(r"VERIFY records=(\d+) bad=(\d) disks=(\d+) counts=(\S+) torn=(\d)")
_T = TypeVar("_T")


class ExecResult(NamedTuple):
    """What a script in the guest ended with."""

    rc: int
    out: str
    err: str


@dataclass(frozen=True)
class Verified:
    """The guest's judgement of its journal at boot."""

    records: int
    """Records that are complete on every data disk."""
    bad: bool
    """A broken chain, a missing disk, or disks copied at different moments."""
    disks: int
    counts: tuple[int, ...]
    torn: bool
    """The last record was half written, as after a power cut; that alone is not bad."""


@dataclass
class Guest:
    """A handle on a domain of a lab. Any domain that runs the test guest's disks will do."""

    host: SessionHost
    name: str
    serial_log: Path | None = None
    disk_paths: tuple[Path, ...] = ()
    agent: bool = True
    _mark: int = 0

    def domain(self) -> Any:
        """Return the libvirt domain, looked up anew."""
        return self.host.conn.lookupByName(self.name)

    @property
    def running(self) -> bool:
        """Whether the domain is active."""
        return bool(self.domain().isActive())

    def start(self) -> Guest:
        """Power it on and return at once; see wait_ready()."""
        self._mark = len(self.serial_text)
        self.domain().create()
        return self

    @property
    def serial_text(self) -> str:
        """Everything it ever printed on its serial console."""
        if self.serial_log is None or not self.serial_log.exists():
            return ""
        return self.serial_log.read_text("utf-8", "replace")

    def wait_ready(self, timeout: float = 120) -> Verified:
        """Wait until it has booted since the last start(); return what it verified."""
        if self.serial_log is None:
            self.wait_agent(timeout)
            return self.verified()

        def ready() -> bool:
            text = self.serial_text[self._mark :]
            if "Kernel panic" in text:
                raise self._error("its kernel panicked")
            return "GUEST READY" in text

        self._wait(ready, timeout, "it did not boot")
        return self.verified()

    def mark(self) -> None:
        """Make the next wait_ready() wait for a boot from now on, as for a reset from outside."""
        self._mark = len(self.serial_text)

    def verified(self) -> Verified:
        """Return what it verified at its last boot, from its serial console or by its agent."""
        text = self.serial_text[self._mark :]
        if self.serial_log is None:
            text = self.exec("cat /run/hs/verify").out
        found = _VERIFY.findall(text)
        if not found:
            raise self._error("it has not verified its journal since its last start")
        records, bad, disks, counts, torn = found[-1]
        numbers = tuple(int(n) for n in counts.split(",") if n.isdigit())
        return Verified(int(records), bad != "0", int(disks), numbers, torn != "0")

    def wait_agent(self, timeout: float = 120) -> None:
        """Wait until its agent answers."""

        def answers() -> bool:
            try:
                self.agent_command("guest-ping", timeout=2)
            except libvirt.libvirtError:
                return False
            return True

        self._wait(answers, timeout, "its agent did not answer")

    def agent_command(self, command: str, *, timeout: int = 20, **arguments: Any) -> Any:
        """Send one command to the agent; underscores in argument names become hyphens."""
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        answer = libvirt_qemu.qemuAgentCommand(self.domain(), json.dumps(request), timeout, 0)
        return json.loads(answer)["return"]

    def exec(self, script: str, timeout: float = 120) -> ExecResult:
        """Run a shell script in the guest by its agent."""
        started = self.agent_command(
            "guest-exec", path="/bin/sh", arg=["-c", script], capture_output=True
        )
        end = time.monotonic() + timeout
        while True:
            status = self.agent_command("guest-exec-status", pid=started["pid"])
            if status["exited"]:
                break
            if time.monotonic() > end:
                raise self._error(f"the script {script!r} did not end within {timeout:.0f} s")
            time.sleep(0.05)
        out, err = (
            base64.b64decode(status.get(key, "")).decode(errors="replace")
            for key in ("out-data", "err-data")
        )
        return ExecResult(int(status.get("exitcode", -1)), out, err)

    def journal_count(self) -> int:
        """Return how many records are in its journal now."""
        result = self.exec("wc -l < /data/journal")
        if result.rc:
            raise self._error(f"its journal cannot be read ({result.err.strip()})")
        return int(result.out)

    def wait_records(self, count: int, timeout: float = 120) -> int:
        """Wait until its journal has at least so many records; return how many."""
        found = 0

        def enough() -> bool:
            nonlocal found
            found = self.journal_count()
            return found >= count

        self._wait(enough, timeout, f"it did not write {count} records")
        return found

    def set_rate(self, rate: float) -> None:
        """Set how many records a second it writes until its next boot; 0 pauses the writer."""
        self.exec(f"echo {interval(rate)} > /run/hs/interval")

    def shutdown(self, timeout: float = 60) -> None:
        """Shut it down from inside (agent, or the power button without one) and wait."""
        flag = (
            libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
            if self.agent
            else libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        )
        with contextlib.suppress(libvirt.libvirtError):
            # the agent may be gone before its answer is read; one that refused is seen below
            self.domain().shutdownFlags(flag)
        self._wait(lambda: not self.running, timeout, "it did not shut down")

    def destroy(self) -> None:
        """Cut its power through libvirt; one that is off is fine."""
        _destroy(self.domain())

    def qemu_pid(self) -> int:
        """Return the id of its QEMU process."""
        pid = self.host.qemu_pids().get(self.name)
        if pid is None:
            raise self._error("it has no QEMU process")
        return pid

    def kill9(self) -> None:
        """Kill its QEMU with SIGKILL and wait until libvirt has noticed (if libvirt runs)."""
        pid = self.qemu_pid()
        procs.send(pid, signal.SIGKILL)
        procs.wait_gone(pid, 10)
        if self.host.running:
            self._wait(lambda: not self.running, 20, "libvirt did not notice that QEMU is gone")

    def remove(self, *, disks: bool = True) -> None:
        """Cut its power, undefine it with all its metadata and delete its disks; twice is fine."""
        try:
            domain = self.domain()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        else:
            _destroy(domain)
            domain = self.domain_or_none()  # a transient one is gone by now
            if domain is not None:
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                )
        if disks:
            for path in self.disk_paths:
                path.unlink(missing_ok=True)

    def domain_or_none(self) -> Any:
        """Return the libvirt domain, or None when there is none of that name."""
        try:
            return self.domain()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def _wait(self, condition: Callable[[], bool], timeout: float, complaint: str) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise self._error(f"{complaint} within {timeout:.0f} s")
            time.sleep(0.05)

    def _error(self, what: str) -> TestbedError:
        tail = " | ".join(self.serial_text.strip().splitlines()[-3:])
        return TestbedError(
            f"Guest {self.name} on host {self.host.name}: {what}.",
            f"The end of its console: {tail or 'nothing'}. Whole console: {self.serial_log}.",
        )


def _destroy(domain: Any) -> None:
    """Cut a domain's power; one that is off, or goes off this moment, is fine."""
    try:
        if domain.isActive():
            domain.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (
            libvirt.VIR_ERR_OPERATION_INVALID,
            libvirt.VIR_ERR_NO_DOMAIN,
        ):
            raise


def interval(rate: float) -> str:
    """Return the pause between records, in seconds, for a rate in records a second."""
    return f"{1 / rate:.3f}" if rate > 0 else "0"
