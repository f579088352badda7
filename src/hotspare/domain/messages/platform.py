"""Texts of the codes that the platform area raises."""

from . import Text

TEXTS: dict[str, Text] = {
    # --- target and standby ---
    "blob.changed": Text(
        "The file {blob} of rule {rule} at the target is not what was stored: it was changed or "
        "damaged.",
        "Check the storage. Delete the rule with --delete-replica and make it anew to start over."),
    "blob.not-found": Text("No restore point has a file named {blob}.", exit=3),
    "disk.invalid": Text(
        "The disk {disk} cannot be replicated: {reason} is not acceptable.",
        "Its size must be a multiple of 512 bytes and its id must be unique.", exit=8),
    "disk.shrunk": Text(
        "The disk {disk} is smaller ({size} bytes) than at the last restore point ({before}).",
        "Delete the replica's restore points, or give the smaller disk another target name.",
        exit=4),
    "intent.invalid": Text("{intent} names no intent of this program.", exit=2),
    "lineage.damaged": Text(
        "Both copies of the lineage of rule {rule} at the target are damaged; its restore points "
        "cannot be told from other files.",
        "Nothing was deleted. Check the storage; protect the machine by a new rule, and remove the "
        "old files once its restore points are not needed."),
    "lineage.forged": Text(
        "The lineage of rule {rule} at the target was not written by this rule: its authentication "
        "fails.",
        "Find out who wrote to the storage pool. If the rule's key was replaced, restore it."),
    "lineage.full": Text(
        "The lineage disk has no room for {points} restore points ({size} of {limit} bytes).",
        "Lower the number of restore points that the rule keeps."),
    "lineage.missing": Text(
        "Files of rule {rule} lie in the storage pool {storage}, but not the lineage that says "
        "which of them are restore points: it was deleted.",
        "Restore the file hs-{rule}.lineage, or remove the files hs-{rule}-* and start anew."),
    "lineage.version": Text(
        "The lineage of rule {rule} was written by a newer version of this program ({reason}).",
        "Upgrade this DR machine."),
    "merge.failed": Text(
        "QEMU could not merge {file} (disk {disk}). No restore point is lost.",
        "Look at the log of the domain hs-rx-… on the target host; the next run tries again."),
    "name.taken": Text(
        "The target has a machine named {name} that is no replica of this rule.",
        "Choose another name for the replica, or rename that machine.", exit=4),
    "point.conflict": Text(
        "Another task has published a restore point as number {number}.",
        "Two DR machines work on one rule; see which one should."),
    "point.is-head": Text(
        "Restore point {number} is the newest: there is none to merge it into.",
        "Delete the replica to delete its last restore point.", exit=4),
    "point.mismatch": Text(
        "What is to be done does not fit what was begun: {found} instead of {expected}."),
    "point.not-found": Text("There is no restore point {number}.", exit=3),
    "point.other-retiring": Text(
        "Restore point {number} cannot be removed while point {other} is being merged.",
        "Remove point {other} first.", exit=4),
    "point.pinned": Text(
        "Restore point {number} cannot be merged: {by} stands on it.",
        "End that failover or test, or delete what stands on the restore point.", exit=4),
    "point.published": Text("Restore point {number} is published and cannot be written.", exit=4),
    "point.retiring": Text(
        "Restore point {number} is being merged into the next one and cannot be used.",
        "Choose another restore point.", exit=4),
    "receiver.gone": Text(
        "The helper {domain} on the target host has ended or the way to it broke."),
    "receiver.stuck": Text(
        "The helper {domain} on the target host does not end.",
        "End that domain on the host (virsh destroy {domain}); its storage may hang."),
    "replica.base-stale": Text(
        "Restore point {base} is not the newest one at the target ({head} is).",
        "Run the task again."),
    "replica.busy": Text(
        "Another process has a file of the replica open for writing: {reason}.",
        "End what uses the replica's files on the target host."),
    "replica.changed": Text(
        "The replica's file {file} was written to since its restore point.",
        "Find out what wrote to it, and see that it does not go on. The point stays as it is; a "
        "new one that is right is made by: hotspare rule start RULE --repair"),
    "replica.in-use": Text(
        "The replica cannot be removed: {by} stands on it.",
        "End the failover or test first.", exit=4),
    "replica.not-found": Text(
        "The storage pool {storage} holds no replica of rule {rule}.", exit=3),
    "replica.seal-missing": Text(
        "It cannot be told whether the replica's file {file} was written to since its restore "
        "point.",
        "The next run compares all data; nothing is to be done."),
    "rule.fenced": Text(
        "Another DR machine has taken over rule {rule} (epoch {found}, ours is {epoch}).",
        "Nothing is to be done on this one."),
    "rule.invalid": Text("{rule} is no id of a rule.", exit=2),
    "storage.busy": Text("The storage pool {storage} is busy with another client's volume."),
    "storage.full": Text(
        "The storage pool {storage} has {free} bytes free; {need} are needed.",
        "Free some space, or lower the number of restore points.", exit=7),
    "storage.inactive": Text(
        "The storage pool {storage} is not active.",
        "Start it (virsh pool-start {storage}).", exit=4),
    "storage.type": Text(
        "The storage pool {storage} is of the type {kind}, which cannot hold chains of files.",
        "Use a pool of one of the types {usable}.", exit=8),
    "target.arch": Text(
        "The target host cannot run machines of the architecture {arch} (it offers {offered}).",
        "Choose another target host, or install QEMU for {arch} there.", exit=8),
    "target.cpu": Text(
        "The target host cannot offer the CPU model {model}.",
        "Give the machine a model that both hosts have, or host-model. The target's: {usable}.",
        exit=8),
    "target.firmware": Text(
        "The target host has no firmware of the kind {firmware}.",
        "Install the package with OVMF (ovmf, edk2-ovmf) there.", exit=8),
    "target.machine": Text(
        "The target host does not know the machine type {machine}.",
        "Upgrade QEMU on the target, or give the machine a type that both have: {offered}.",
        exit=8),
    "target.network": Text(
        "The target host has no network {mapped} for the source's {network}.",
        "Map {network} to one of the target's networks ({present}) in the rule.", exit=4),
    "target.virt": Text("The target host offers {offered}, not {virt}.", exit=8),
    "vm.invalid": Text(
        "The machine's configuration holds a value that is not acceptable: {field} is {value}.",
        "Change it at the source.", exit=8),
    # --- connection, inventory and source ---
    "agent.unresponsive": Text(
        "The guest agent of {vm} does not answer: {reason}.",
        "Look at the service qemu-guest-agent inside the machine."),
    "checkpoint.off": Text(
        "The checkpoint {checkpoint} stays until its machine runs: only QEMU can remove it.",
        "A later run removes it; before the end of the rule, start the machine."),
    "disk.bus": Text(
        "The disk {disk} is attached to the bus {bus}, which is not supported.",
        "Use virtio, scsi, sata, ide or usb.", exit=8),
    "disk.encrypted": Text(
        "The disk {disk} is encrypted by the hypervisor, which is not supported.",
        "Encrypt inside the machine instead.", exit=8),
    "disk.format": Text(
        "The disk {disk} has the format {format}, which is not supported.",
        "Convert it to qcow2.", exit=8),
    "disk.lun": Text(
        "The disk {disk} is a passed-through device ({device}), which cannot be replicated.",
        "Attach its storage as an ordinary disk.", exit=8),
    "disk.no-source": Text(
        "The disk {disk} has no storage.", "Attach its storage or remove the disk.", exit=8),
    "disk.not-smaller": Text(
        "The disk {disk} cannot become smaller ({size} bytes) than it was before the failback "
        "({before}).", exit=4),
    "disk.read-only": Text(
        "The disk {disk} is read-only in the machine's configuration, so a failback cannot write "
        "it: other machines may use it as well.",
        "If it is the machine's own, take <readonly/> out of its configuration.", exit=8),
    "disk.resize": Text(
        "The disk {disk} cannot be made {size} bytes large where it lies: {reason}.",
        "Give it that size by the means of its storage, and try again.", exit=4),
    "disk.shareable": Text(
        "The disk {disk} is shareable: other machines may write to it at the same moment.",
        "Remove <shareable/> if it belongs to this machine alone.", exit=8),
    "disk.storage": Text(
        "The disk {disk} lies on storage of the kind {storage}, which is not supported.",
        "Use a file, a block device or a volume of a storage pool.", exit=8),
    "disk.transient": Text(
        "The disk {disk} is transient: its writes are thrown away when the machine stops.",
        "Remove <transient/> from the machine's configuration.", exit=8),
    "disk.unreadable": Text(
        "The host cannot read the disk {disk}: {reason}.",
        "See whether its image is there and its storage is mounted."),
    "first-copy": Text("This is the first copy: there is nothing that changes could count from."),
    "firmware.size": Text(
        "{vm} has no place for the replica's UEFI variables: they are {size} bytes, its own store "
        "has {found}.",
        "Give it firmware of the replica's kind.", exit=8),
    "host.directory": Text(
        "libvirt cannot read the directory {directory} of the host: {reason}.",
        "See whether it is there, and whether libvirt may read it."),
    "host.file-too-large": Text(
        "The file {path} of the host is larger than the {limit} bytes that are expected of it."),
    "host.no-space": Text(
        "The host has no space left: {reason}.", "Free some space on it.", exit=7),
    "network.inactive": Text(
        "The network {network} is not active.", "Start it (virsh net-start {network}).", exit=4),
    "network.not-found": Text("The host has no such network: {reason}.", exit=3),
    "platform.auth": Text(
        "The host refused us: {reason}.",
        "See that the key or the account is right and may log in and use libvirt there.", exit=5),
    "platform.busy": Text(
        "libvirt is busy with the machine: {reason}.",
        "If that lasts, see what else works on the machine (virsh domjobinfo)."),
    "platform.denied": Text(
        "libvirt denied access: {reason}.",
        "Give the account the right to manage libvirt (group libvirt, or polkit).", exit=5),
    "platform.failed": Text("libvirt failed: {reason}."),
    "platform.no-backup": Text(
        "QEMU on this host cannot run backup jobs.", "Upgrade QEMU and libvirt there.", exit=8),
    "platform.qemu-ended": Text(
        "A QEMU on the host ended meanwhile: {reason}.", "See the log of libvirt on the host."),
    "platform.option": Text(
        "The connection's option {option} cannot be {value}.",
        "Give an absolute path without quotes, backslashes, $ and %.", exit=2),
    "platform.scheme": Text(
        "The address {uri} is of a kind that is not supported ({scheme}).",
        "Use qemu:///system or qemu+unix for this machine, qemu+ssh for others. qemu+tcp carries "
        "disks and commands in clear text and is refused; qemu+tls is not there yet.", exit=2),
    "platform.socket-dir": Text(
        "It cannot be told where QEMU may make its sockets on the host of {uri}.",
        "Set the connection's option socket_dir to a directory that QEMU there can write.",
        exit=2),
    "platform.socket-path": Text(
        "The socket path {path} is longer than QEMU's limit of {limit} bytes.",
        "Set the connection's option socket_dir to a directory with a shorter path.", exit=2),
    "platform.too-old": Text(
        "The host's software is older than what is needed.",
        "Upgrade it: libvirt 8.2 and QEMU 6.1 are the oldest that work.", exit=8),
    "platform.unreachable": Text(
        "The host cannot be reached: {reason}.",
        "See that it runs, that libvirtd runs there, and that the network lets us through.",
        exit=6),
    "platform.unsupported": Text("The host cannot do this: {reason}.", exit=8),
    "platform.uri": Text(
        "{uri} is no address that is accepted.",
        "The path must be /system or /session. Of the parameters only socket and proxy are "
        "allowed: others could run programs or switch off the check of the host's key.", exit=2),
    "platform.xml": Text("libvirt sent a description that cannot be accepted: {reason}."),
    "qmp.failed": Text("QEMU refused {command}: {reason}."),
    "quiesce.agent-hung": Text(
        "The guest agent hangs, so the file systems were not quiesced.",
        "Restart the service qemu-guest-agent inside the machine."),
    "quiesce.cut-short": Text(
        "Making the instant took too long, so the machine's file systems were thawed early.",
        "See what slows the host's storage or libvirtd down."),
    "quiesce.failed": Text(
        "The file systems of {vm} could not be quiesced, and the rule requires it ({note}).",
        "See to the guest agent inside the machine, or choose to quiesce where possible only."),
    "quiesce.no-agent": Text(
        "No guest agent is connected, so the file systems were not quiesced.",
        "Add the channel org.qemu.guest_agent.0, and install qemu-guest-agent in the machine."),
    "quiesce.nothing-frozen": Text(
        "The guest agent found no file system that it could freeze."),
    "quiesce.paused": Text("The machine is paused, so its file systems could not be quiesced."),
    "quiesce.thaw-failed": Text(
        "The file systems of {vm} may still be frozen: the guest agent does not answer any more.",
        "Run virsh domfsthaw {vm} on its host at once, or reset the machine."),
    "source.busy": Text(
        "Another job runs on {vm} (a backup, a migration, a block job).",
        "Nothing is to be done if it ends; see virsh domjobinfo {vm}."),
    "source.cancelled": Text("Nobody waits for the instant any more."),
    "source.disk-busy": Text(
        "Another process on the host has a disk of {vm} open: {reason}.",
        "End what uses the machine's disks."),
    "source.disks-changed": Text(
        "The disks of {vm} are not those of the instant any more."),
    "source.foreign-job": Text(
        "A backup job carries our name {job}, but not our marks.",
        "Find out who started it, and end it (virsh domjobabort)."),
    "source.helper-died": Text(
        "The process that quiesces {vm} was killed; the file systems were thawed."),
    "source.helper-gone": Text(
        "The helper that reads {vm} has ended, and with it the instant."),
    "source.io-error": Text(
        "{vm} was paused by a write error while its instant was held. The instant was let go and "
        "the machine resumed.",
        "See whether the file systems of its disks and of the scratch space are full.", exit=7),
    "source.job-gone": Text("The backup job that held the instant of {vm} has ended."),
    "source.job-stuck": Text(
        "The backup job {job} does not end.", "See whether the machine's storage hangs."),
    "source.other-base": Text(
        "The instant of {vm} that was found counts its changes from another base."),
    "source.runs": Text(
        "{vm} is not off: its disks cannot be written.",
        "Shut it down first.", exit=4),
    "source.saved": Text(
        "{vm} is off with its memory saved, which fits its disks as they are now only.",
        "Start it and shut it down, or drop its memory (virsh managedsave-remove {vm}).", exit=4),
    "source.scratch-dir": Text(
        "The disk {disk} ({location}) lies in no directory that scratch files could be put in.",
        "Set the connection's option scratch_dir to a directory on the host.", exit=4),
    "source.scratch-low": Text(
        "The scratch space of the instant nears its end ({directory}).",
        "Free some space there, or set the connection's option scratch_dir.", exit=7),
    "source.vm-starting": Text("The machine {vm} is just being started."),
    "source.vm-stopped": Text("The machine {vm} stopped while its instant was held."),
    "ssh.agent": Text(
        "ssh-agent cannot be started.", "Install the OpenSSH client on this machine."),
    "ssh.host-key": Text(
        "The host's ssh key is not the one that is known: {reason}.",
        "If the host is the right one, put its key into the connection's option known_hosts.",
        exit=5),
    "ssh.key": Text(
        "The private ssh key cannot be used: {reason}.",
        "Give an OpenSSH private key without a passphrase.", exit=5),
    "storage.not-found": Text("The host has no such storage pool: {reason}.", exit=3),
    "tracking.broken": Text(
        "The list of changed blocks of the disk {disk} is lost: the machine was not stopped "
        "properly, or its image was restored.",
        "Nothing is to be done: this run compares all data, the next ones are fast again."),
    "tracking.checkpoint-lost": Text(
        "The checkpoint that changes count from is gone.",
        "Nothing is to be done: this run compares all data."),
    "tracking.disk-added": Text("The disk is new since the last restore point."),
    "tracking.disk-shrunk": Text("The disk is smaller than at the last restore point."),
    "tracking.never-ran": Text(
        "The machine has been off at all runs so far, and QEMU tracks changes only of one that "
        "runs, so all data is compared."),
    "tracking.old-format": Text(
        "A disk's image is of the old qcow2 version 2, which has no place for a list of changed "
        "blocks, so all data of the machine is compared.",
        "Convert it while the machine is off: qemu-img amend -f qcow2 -o compat=1.1 FILE."),
    "tracking.raw": Text(
        "A raw disk has no place for a list of changed blocks, so all its data is compared.",
        "Convert it to qcow2 for faster runs."),
    "undo.mark": Text(
        "The option {option} of {vm} is not as Hotspare writes it, so it cannot be told how far "
        "the failback has come.",
        "See who changed it; put it back, or remove it to begin anew: then what the failback has "
        "overwritten cannot be put back.", exit=6),
    "undo.missing": Text(
        "The failback has an undo disk for each disk, but {file} is missing: what the disk {disk} "
        "held before is lost, or the disk is new since then.",
        "Restore that file to undo the failback, or commit the failback; without the new disk it "
        "goes on."),
    "vm.confidential": Text(
        "{vm} has encrypted memory (SEV), which is not supported.", exit=8),
    "vm.kind": Text("{vm} is no QEMU machine ({kind}).", exit=8),
    "vm.lease": Text("{vm} holds a storage lease ({device}), which is not supported.", exit=8),
    "vm.no-disks": Text("{vm} has no disk that could be replicated.", exit=8),
    "vm.not-found": Text("There is no such machine: {reason}.", exit=3),
    "vm.nvdimm": Text("{vm} has persistent memory, which cannot be replicated.", exit=8),
    "vm.passthrough": Text(
        "{vm} has a passed-through device ({device}), which another host does not have.",
        "Remove the device.", exit=8),
    "vm.saved": Text(
        "The machine is off with its memory saved; what was not on its disks is not in the point.",
        "Start and shut down the machine for a clean point."),
    "vm.tpm": Text(
        "{vm} has a virtual TPM, which is not supported yet.", "Remove the TPM.", exit=8),
    "vm.warn.device": Text("The device {device} is left out of the replica."),
    "vm.warn.direct-kernel": Text(
        "The kernel that the host boots the machine with is left out: the replica boots from its "
        "disk."),
    "vm.warn.disk-raw": Text(
        "The disk {disk} is raw: without changed-block tracking each run reads all of it."),
    "vm.warn.disk-readonly": Text(
        "The disk {disk} is read-only here; in the replica it can be written."),
    "vm.warn.interface": Text(
        "The network card {mac} is attached directly ({kind}): map it to a network of the target."),
    "vm.warn.internal-snapshots": Text(
        "The machine has {count} internal snapshots: they are not in the replica, and going back "
        "to one loses the list of changed blocks."),
    "vm.warn.loader": Text("The machine's own firmware file is left out of the replica."),
    "vm.warn.removable": Text(
        "The drive {disk} ({device}) is left out of the replica with its medium."),
    "vm.warn.setting": Text("The setting {setting} is left out of the replica."),
    "volume.not-found": Text("The host has no such file: {reason}.", exit=3),
}
