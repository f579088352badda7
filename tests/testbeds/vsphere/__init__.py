"""vSphere on this machine, for tests: a simulator with real disk content, and disks over VDDK.

    from testbeds.vsphere.bed import Vsphere
"""
