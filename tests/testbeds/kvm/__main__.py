"""`python -m testbeds.kvm up|status|down`: a lab for trying things by hand."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import TestbedError

if TYPE_CHECKING:
    from .lab import Lab

_GUEST = "demo"


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m testbeds.kvm",
        description="Two small hypervisor hosts and a guest on this machine, for trying Hotspare.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a test bed (or show the one that runs)")
    up.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    up.add_argument("--disks", type=int, choices=range(1, 4), default=1)
    up.add_argument("--ssh", action="store_true", help="also start an ssh server for each host")
    up.add_argument("--dir", type=Path, help="directory to put it in (default /tmp; keep it short)")
    commands.add_parser("status", help="show the test beds on this machine")
    down = commands.add_parser("down", help="end the test bed and remove what dead ones left")
    down.add_argument(
        "--stale", action="store_true", help="keep the running one, remove only what dead ones left"
    )
    down.add_argument("--dir", type=Path, help="the directory given to up")
    arguments = parser.parse_args(argv)
    try:
        # here, as these need libvirt: a missing one is then told as an error, without a traceback
        from . import lab as labs
        from .lab import Lab

        directory = getattr(arguments, "dir", None)
        parent = directory.resolve() if directory else None
        found = labs.find_labs(parent)
        if arguments.command == "up":
            return _up(labs.detached_labs(found), arguments, Lab, parent)
        if arguments.command == "status":
            return _status(found, Lab)
        return _down(found, Lab, only_stale=arguments.stale)
    except TestbedError as error:
        print(f"Error: {error.cause}\n  {error.remedy}", file=sys.stderr)
        return 1


def _up(
    running: list[Path], arguments: argparse.Namespace, lab_type: type[Lab], parent: Path | None
) -> int:
    if running:
        print("A test bed is up already; `down` removes it.")
        _describe(lab_type.attach(running[0]))
        return 0
    print("Starting two hosts and a guest (about 20 s) ...", flush=True)
    lab = lab_type(detached=True, parent=parent)
    try:
        lab.start()
        guest = lab.define_guest(
            lab.a, _GUEST, firmware=arguments.firmware, disks=arguments.disks
        ).start()
        guest.wait_ready()
        guest.wait_agent()
        if arguments.ssh:
            for host in lab.hosts.values():
                lab.ssh_for(host)
    except BaseException:
        lab.stop()
        raise
    _describe(lab)
    return 0


def _describe(lab: Lab) -> None:
    print(f"Test bed in {lab.dir}, run by the account {lab.identity.name}")
    for host in lab.hosts.values():
        state = "running" if host.running else "NOT RUNNING"
        print(f"  host {host.name}: {state}")
        print(f"    libvirt URI  {host.uri}")
        if (lab.dir / f"ssh-{host.name}" / "port").exists():
            print(f"    over ssh     {lab.ssh_for(host).uri(host)}")
        print(f"    pool         {lab.pool_name(host)} ({host.storage_dir})")
    for guest in lab.guests.values():
        running = guest.name in guest.host.qemu_pids()
        print(f"  guest {guest.name} on host {guest.host.name}: {'running' if running else 'off'}")
        print(f"    console      tail -f {guest.serial_log}")
    print("Hints:")
    print(f"  virsh -c '{lab.a.uri}' list --all")
    print("  The guest writes 10 journal records a second and verifies them at each boot: look for")
    print("  VERIFY in its console. A replica of it must print bad=0, too.")
    print("  End it with: python -m testbeds.kvm down")


def _status(found: list[Path], lab_type: type[Lab]) -> int:
    from .lab import is_detached, is_stale

    if not found:
        print("No test bed is up.")
    for directory in found:
        if is_detached(directory):
            _describe(lab_type.attach(directory))
        elif is_stale(directory):
            print(f"{directory}: left by a process that is gone; `down` removes it")
        else:
            print(f"{directory}: in use by a test run")
    return 0


def _down(found: list[Path], lab_type: type[Lab], *, only_stale: bool) -> int:
    from .lab import is_detached, is_stale

    removed = 0
    for directory in found:
        if is_detached(directory) and only_stale:
            continue
        if not (is_detached(directory) or is_stale(directory)):
            print(f"Left {directory} alone: a running test uses it.")
            continue
        try:
            lab_type.attach(directory).stop()
        except (OSError, ValueError, KeyError):  # its state is broken: nothing to attach to
            with contextlib.suppress(OSError):
                shutil.rmtree(directory)
        print(f"Removed {directory}.")
        removed += 1
    if not removed:
        print("No test bed to remove.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
