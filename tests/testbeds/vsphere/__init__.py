"""vSphere on this machine, for tests: a simulator with real disk content, and disks over VDDK."""

from .bed import Disk, Machine, Vsphere

__all__ = ["Disk", "Machine", "Vsphere"]
