"""The privileges that a login needs, by the names that vSphere gives them."""

from __future__ import annotations

from typing import Final

from pyVmomi import vim

from ..port import Check
from .connection import Connection

SOURCE: Final = (
    "VirtualMachine.Config.ChangeTracking", "VirtualMachine.Config.DiskLease",
    "VirtualMachine.Provisioning.DiskRandomRead", "VirtualMachine.Provisioning.GetVmFiles",
    "VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot",
    "Datastore.Browse", "Datastore.FileManagement", "Global.DisableMethods",
    "Global.EnableMethods")
"""To read machines. The last two keep a machine from being moved while its disks are read."""

TARGET: Final = (
    "VirtualMachine.Inventory.Create", "VirtualMachine.Inventory.Delete",
    "VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.AddExistingDisk",
    "VirtualMachine.Config.RemoveDisk", "VirtualMachine.Config.AddRemoveDevice",
    "VirtualMachine.Config.EditDevice", "VirtualMachine.Config.AdvancedConfig",
    "VirtualMachine.Config.Settings", "VirtualMachine.Config.CPUCount",
    "VirtualMachine.Config.Memory", "VirtualMachine.Config.Rename",
    "VirtualMachine.Provisioning.DiskRandomAccess", "VirtualMachine.State.RevertToSnapshot",
    "VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff",
    "VirtualMachine.Interact.DeviceConnection", "Datastore.AllocateSpace", "Network.Assign",
    "Resource.AssignVMToPool")
"""Beside those, to hold replicas and run them, and to take the work home again."""


def checks(connection: Connection) -> list[Check]:
    """One for each privilege of a source, and one for those of a target, which a source can do
    without. It may be given at the root or in a datacenter: a login that sees one part of the
    inventory only is enough for the machines there."""
    with connection.calls():
        content = connection.content
        session = content.sessionManager.currentSession
        entities = [content.rootFolder, *(
            obj for obj, _ in connection.collect(vim.Datacenter, ["name"]))]
        answers = content.authorizationManager.HasPrivilegeOnEntities(
            entities, session.key, [*SOURCE, *TARGET])
    granted = {a.privId for answer in answers for a in answer.privAvailability if a.isGranted}
    lacking = [name for name in TARGET if name not in granted]
    return [*(Check(f"privilege {name}", name in granted, "", "" if name in granted else
                    "vsphere.privilege-missing", {} if name in granted else {"privilege": name})
              for name in SOURCE),
            Check("target", True, f"as a source only, without {', '.join(lacking)}" if lacking
                  else "all privileges")]
