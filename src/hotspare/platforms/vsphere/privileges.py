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


def checks(connection: Connection) -> list[Check]:
    """One for each privilege. It may be given at the root or in a datacenter: a login that sees
    one part of the inventory only is enough for the machines there."""
    with connection.calls():
        content = connection.content
        session = content.sessionManager.currentSession
        entities = [content.rootFolder, *(
            obj for obj, _ in connection.collect(vim.Datacenter, ["name"]))]
        answers = content.authorizationManager.HasPrivilegeOnEntities(
            entities, session.key, list(SOURCE))
    granted = {a.privId for answer in answers for a in answer.privAvailability if a.isGranted}
    return [Check(f"privilege {name}", name in granted, "", "" if name in granted else
                  "vsphere.privilege-missing", {} if name in granted else {"privilege": name})
            for name in SOURCE]
