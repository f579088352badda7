"""Texts of the codes that the vSphere driver raises."""

from . import Text

TEXTS: dict[str, Text] = {
    # --- connection ---
    "vsphere.cancelled": Text("vSphere broke the work off: {reason}."),
    "vsphere.clock": Text(
        "The clocks of the server and of this DR machine are {seconds} s apart.",
        "Let both follow a time server (NTP).", exit=4),
    "vsphere.host-away": Text(
        "The ESXi host cannot be reached by its vCenter: {reason}.",
        "See that the host runs and that vCenter shows it as connected.", exit=6),
    "vsphere.object-gone": Text("vSphere has no such object any more: {reason}.", exit=3),
    "vsphere.power-state": Text(
        "The machine's power state does not allow this now: {reason}."),
    "vsphere.privilege": Text(
        "The login lacks the privilege {privilege} on {object}.",
        "Give it to the login's role in vSphere; docs/user/vsphere.md lists all that are needed.",
        exit=5),
    "vsphere.privilege-missing": Text(
        "The login lacks the privilege {privilege}.",
        "Give it to the login's role in vSphere, at the root or at the datacenter.", exit=5),
    "vsphere.session-ended": Text("The session at vSphere has ended: {reason}."),
    "vsphere.thumbprint-form": Text(
        "{given} is no thumbprint of a certificate.",
        "Give the SHA-1 thumbprint: 20 pairs of hex digits with colons between them.", exit=2),
    "vsphere.thumbprint-other": Text(
        "The server shows another certificate than the one that is known: its thumbprint is "
        "{found}, not {known}. Nothing was sent to it.",
        "If the certificate was replaced, compare the new thumbprint with the one that the server "
        "shows on its console, and set the platform's option thumbprint to it.", exit=5),
    "vsphere.thumbprint-unknown": Text(
        "The server's certificate is signed by nobody whom this machine trusts ({reason}). Its "
        "SHA-1 thumbprint is {found}. Nothing was sent to it.",
        "Compare that with the thumbprint that the server shows on its console; if it is the same, "
        "set the platform's option: thumbprint={found}", exit=5),
    "vsphere.too-old": Text(
        "The server's version is older than what is needed.",
        "vSphere 6.5 is the oldest that works.", exit=8),
    "vsphere.transports": Text(
        "The option transports names one that does not exist: {given}.",
        "Known are: {known}.", exit=2),
    "vsphere.user": Text(
        "A user and a password are needed for {uri}.",
        "Set the platform's option user, and its password.", exit=5),
    # --- places ---
    "datastore.full": Text(
        "The datastore {datastore} has no room left: {reason}.",
        "Free some space there. Nothing that was published is lost.", exit=7),
    "vsphere.datastore-unusable": Text(
        "The datastore {storage} is not accessible, or in maintenance mode.", exit=4),
    "vsphere.host-unusable": Text(
        "The host {host} is not connected, or in maintenance mode.", exit=4),
    # --- disks and the ways to them ---
    "disk.independent": Text(
        "The disk {disk} is independent: snapshots leave it out.",
        "Set its disk mode to dependent, while the machine is off.", exit=8),
    "disk.multi-writer": Text(
        "The disk {disk} is shared between machines (multi-writer), which has no consistent "
        "instant.", "Do not share it.", exit=8),
    "folder.read-only": Text("The transport folder can only read."),
    "folder.runs": Text("The transport folder cannot read a machine that runs."),
    "folder.snapshots": Text("The transport folder cannot read a disk above a snapshot."),
    "nbdkit.failed": Text(
        "nbdkit could not be started: {reason}.",
        "See docs/user/vsphere.md for what it needs on the DR machine."),
    "nbdkit.missing": Text(
        "nbdkit is not installed on the DR machine.", "Install the package nbdkit there.",
        exit=8),
    "transport.used": Text("The data of disk {disk} came by {transport}."),
    "vddk.missing": Text(
        "VMware's library for virtual disks (VDDK) is not on the DR machine.",
        "Obtain it from Broadcom, unpack it there, and set the platform's option vddk_libdir to "
        "its place; see docs/user/vsphere.md.", exit=8),
    "vddk.untrusted": Text(
        "{path} is not taken for VMware's library or nbdkit's plugin for it: it has another name, "
        "or others than root can change it.",
        "Let it belong to root, and be writable for root only.", exit=5),
    "target.place-gone": Text(
        "There is no {kind} {name} at the target any more. Known there: {known}.",
        "Make it again, or choose another one for the rule.", exit=8),
    "vsphere.no-tools": Text(
        "{vm} could not be asked to shut down: VMware Tools do not answer in its guest.",
        "Shut it down from inside, or allow its power to be cut (--power-off).", exit=4),
    "vsphere.no-transport": Text(
        "No transport can reach {file}: {reasons}.",
        "See docs/user/vsphere.md for what each of them needs.", exit=8),
    # --- replicas ---
    "failover.mark": Text(
        "The file {file} tells of a failover, but not in our words.",
        "Find out who changed it; without a failover it can be deleted."),
    "folder.failed": Text(
        "The server did not take or give the file {file}: {reason}.",
        "See the server's own log, and that the login may work with the files of the datastore."),
    "isolation.no-address": Text(
        "A host of vSphere has no address in a test's network, so ports of the copy cannot be "
        "asked."),
    "point.snapshot-gone": Text(
        "The snapshot {snapshot}, which restore point {number} is, was deleted, or its disks were "
        "taken out.",
        "Find out who did that. The other restore points are not touched by it."),
    "replica.foreign": Text(
        "The machine {machine} has the id of the replica of rule {rule}, but not its mark.",
        "Find out who changed its configuration (hotspare.rule)."),
    "replica.machine-gone": Text(
        "The replica of rule {rule} has files on {storage}, but its machine is gone from the "
        "inventory.",
        "Register the machine again; or, if it is lost, remove the directory hotspare-{rule} there "
        "and start anew."),
    "replica.runs": Text(
        "The replica of rule {rule} was switched on, not by Hotspare ({machine}).",
        "If somebody works with it, leave it alone. Else switch it off and run the task again: it "
        "says what was written to it."),
    "replica.stands": Text(
        "The replica of rule {rule} stands as {name}: no restore point can be made of it now.",
        "End the failover first: undo it, fail back, or make it permanent.", exit=4),
    "target.disk-place": Text(
        "The host gave the new machine the disks {made} in place of {disk}.",
        "Nothing was written to it. Undo the failback, and choose another host.", exit=8),
    "target.host": Text(
        "The host {host} is not there, not connected, or does not reach {storage}.",
        "Choose another host or another storage.", exit=4),
    "target.memory": Text(
        "The machine needs {memory} bytes of memory; the target's host has {offered}.",
        "Choose a larger host.", exit=4),
    "target.too-many-disks": Text(
        "There is no place left for the disk {disk} at the target's {bus} controllers.", exit=8),
    # --- instants ---
    "quiesce.no-tools": Text(
        "VMware Tools do not run in the machine, so its file systems were not quiesced.",
        "Install open-vm-tools or VMware Tools in it."),
    "quiesce.refused": Text(
        "vSphere could not quiesce the file systems of the machine.",
        "See the machine's events in vSphere; on Windows, its shadow copy service."),
    "snapshot.failed": Text(
        "vSphere could not make a snapshot of {vm}: {reason}.",
        "See the machine's events in vSphere."),
    "snapshot.too-many": Text(
        "The machine {vm} has as many snapshots above each other as vSphere allows: {reason}.",
        "Delete some of its snapshots.", exit=4),
    "source.foreign-snapshot": Text(
        "The snapshot {snapshot} carries our name, but not our marks.",
        "Find out who made it, and delete it."),
    "source.snapshot-gone": Text("The snapshot that held the instant of {vm} was deleted."),
    "tracking.begun-anew": Text(
        "vSphere has begun its tracking of changed blocks anew since the last restore point: the "
        "machine lost its power, was reverted or moved, or tracking was switched off and on.",
        "Nothing is to be done: this run compares all data, the next ones are fast again."),
    "tracking.disk-replaced": Text(
        "The disk is another one than at the last restore point."),
    "tracking.not-on": Text(
        "vSphere does not track the changed blocks of the disk yet.",
        "A machine with snapshots of its own from before tracking was switched on is compared as a "
        "whole until they are deleted."),
    "tracking.refused": Text(
        "vSphere does not tell the changed blocks of the disk {disk}: {reason}.",
        "Nothing is to be done: this run compares all data."),
    "tracking.resized": Text("The disk has another size than at the last restore point."),
    # --- machines ---
    "vm.encrypted": Text(
        "{vm} is encrypted by vSphere, which is not supported yet.",
        "Decrypt it, or encrypt inside the machine instead.", exit=8),
    "vm.fault-tolerant": Text(
        "{vm} runs with fault tolerance, which allows no snapshots.",
        "Turn fault tolerance off for it.", exit=8),
    "vm.inaccessible": Text(
        "vSphere cannot read the configuration of {vm}.",
        "See whether its host and its datastore are there.", exit=4),
    "vm.shared-bus": Text(
        "{vm} shares the bus of its controller ({device}) with other machines, which has no "
        "consistent instant.", "Replicate that cluster from inside.", exit=8),
    "vm.template": Text("{vm} is a template.", "Convert it to a machine first.", exit=8),
}
