"""`python -m testbeds.vsphere`: a vCenter to try things with by hand, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time

from ..kvm.errors import TestbedError
from .bed import PASSWORD, USER, Vsphere


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m testbeds.vsphere",
        description="A simulator of vSphere, with two machines whose disks have content.")
    parser.add_argument("--esx", action="store_true", help="one ESXi host without a vCenter")
    arguments = parser.parse_args()
    # a shell that runs this in the background has told it to ignore Ctrl-C
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt), Vsphere(esx=arguments.esx) as vsphere:
            for name, firmware in (("web", "bios"), ("erp", "efi")):
                machine = vsphere.create_vm(name, [(64, "LocalDS_0"), (32, "LocalDS_1")],
                                            firmware=firmware)
                machine.power_on()
                machine.writer(5)
            print(f"address     https://{vsphere.host}:{vsphere.port}/sdk\n"
                  f"user        {USER}\npassword    {PASSWORD}\n"
                  f"thumbprint  {vsphere.thumbprint}\n"
                  f"VDDK        {vsphere.built.libdir} (a stand-in)\n"
                  f"plugin      {vsphere.built.plugin}\n"
                  "It runs until Ctrl-C.", flush=True)
            while True:         # signal.pause() sleeps through a signal that came just before
                time.sleep(1)
    except TestbedError as error:
        print(f"Error: {error.cause}\n  {error.remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
