"""Hotspare keeps a bootable, up-to-date copy of every virtual machine on another hypervisor."""

__version__ = "0.1.0"
