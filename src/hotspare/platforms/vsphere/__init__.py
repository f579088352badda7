"""The driver of VMware vSphere: vCenter, or one ESXi host without it."""
