"""Runs a command and reaps every orphan below it at once, as init does on a real host.

A QEMU that libvirt started is an orphan, and libvirt waits until its parent has reaped it. Where
the machine's process 1 reaps only now and then (some containers and micro-VMs do it every two
seconds), each end of a domain would take as long. Used as a script:
``python reaper.py COMMAND …``; ends when the last of its descendants has ended.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    """Return the command's exit status."""
    # without it (a very old kernel) orphans go to process 1, which is only slower
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    first = os.posix_spawnp(command[0], command, os.environ)
    result = 0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return result
        if pid == first:
            result = os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
