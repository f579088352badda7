"""Texts of what ``hotspare doctor`` finds."""

from . import Text

TEXTS: dict[str, Text] = {
    "doctor.failed": Text("The check itself failed: {error}.", "Report it with this line."),
    "doctor.hangs": Text(
        "The check did not end within {seconds} s.",
        "Something that it looks at hangs: a mount (NFS), a name server, a disk. See dmesg."),
    "doctor.module": Text("{module} is there."),
    "doctor.module-missing": Text(
        "Python's module {module} is missing.",
        "Install {package} of this distribution, and make the virtual environment with "
        "--system-site-packages."),
    "doctor.libvirt-old": Text("libvirt is too old ({version}).", "Version 8.2 is needed."),
    "doctor.program": Text("{program} is there."),
    "doctor.ssh-missing": Text("ssh is missing: no host can be reached by qemu+ssh.",
                               "Install {package}."),
    "doctor.qemu-img-missing": Text("qemu-img is missing: images cannot be looked at by hand.",
                                    "Install {package}."),
    "doctor.nbdkit-missing": Text("nbdkit is missing: vSphere's disks need it.",
                                  "Install {package} if you have vSphere."),
    "doctor.zones": Text("{count} time zones are known."),
    "doctor.no-zones": Text("The time zones are missing: schedules need them.",
                            "Install tzdata."),
    "doctor.no-state": Text("There is no {path} yet; the first start makes it.",
                            "If it should be there, name it with --state-dir."),
    "doctor.not-owner": Text(
        "{path} belongs to user {owner}, and this is user {user}.",
        "Run doctor as the service's user: sudo -u hotspare hotspare doctor --state-dir {path}"),
    "doctor.readable": Text("Others can read {path}.", "Run: chmod go-rwx {path}"),
    "doctor.rights": Text("{path} is this user's alone."),
    "doctor.space": Text("{path} has {free_mib} MiB free."),
    "doctor.space-low": Text("{path} has only {free_mib} MiB free.",
                             "Free some space, or let --temp-dir name another file system."),
    "doctor.no-inodes": Text("{path} has hardly an inode left.", "Delete small files there."),
    "doctor.not-writable": Text("{path} cannot be written.",
                                "Give it to the service's user, or mount it for writing."),
    "doctor.files": Text("{limit} files may be open."),
    "doctor.files-few": Text(
        "Only {limit} files may be open in this shell; many DR machines need {wanted}.",
        "The units of packaging/systemd set it; else: ulimit -n {wanted}"),
    "doctor.database": Text("{database} is sound (schema {revision})."),
    "doctor.no-database": Text("There is no {path} yet; the first start makes it."),
    "doctor.database-damaged": Text(
        "{database} is damaged: {detail}.",
        "Stop the server, move the file away, run hotspare admin restore, start, and run "
        "hotspare admin rebuild for each target."),
    "doctor.not-durable": Text(
        "PostgreSQL has {setting} = off: what was committed is lost at a power loss.",
        "Turn it on in postgresql.conf."),
    "doctor.encoding": Text("The database's encoding is {encoding}.",
                            "Make it anew with ENCODING 'UTF8' and move: hotspare admin migrate"),
    "doctor.certificate": Text("{path} is good for {days} days."),
    "doctor.no-certificate": Text("There is no {path} yet; the first start makes it."),
    "doctor.certificate-ends": Text("{path} ends in {days} days.",
                                    "Restart the server: it makes a new one, no client notices."),
    "doctor.certificate-ended": Text("{path} has ended.",
                                     "Restart the server: it makes a new one, no client notices."),
    "doctor.ca-ends": Text(
        "{path}, which clients and DR machines have pinned, ends in {days} days.",
        "Plan its change: delete the folder tls, restart, and enrol all DR machines anew."),
    "doctor.ca-ended": Text(
        "{path}, which clients and DR machines have pinned, has ended.",
        "Delete the folder tls, restart, and enrol all DR machines anew."),
    "doctor.answers": Text("{url} answers."),
    "doctor.no-answer": Text(
        "A server runs on the state directory, but {url} does not answer: {error}.",
        "Look at its log (journalctl -u hotspare), then restart it."),
    "doctor.port-free": Text("{listen} is free; no server runs."),
    "doctor.port-taken": Text("No server of ours runs, and {listen} cannot be used: {error}.",
                              "End what has the port (ss -ltnp), or start with another --listen."),
    "doctor.settings": Text("{path} is right, or not there."),
    "doctor.server-unreachable": Text(
        "The control server {server} does not answer: {error}.",
        "Is it running? This machine must reach its port; the way back is not needed."),
    "doctor.offset": Text("The clock is the control server's, to {seconds} s."),
    "doctor.offset-large": Text("The clock is {seconds} s away from the control server's.",
                                "Let both be kept right by NTP (chrony, systemd-timesyncd)."),
    "doctor.clock": Text("The clock is kept right by NTP."),
    "doctor.clock-alone": Text("Nothing keeps the clock right.",
                               "Install chrony, or: timedatectl set-ntp true"),
    "doctor.clock-unknown": Text("Whether the clock is kept right cannot be told here."),
    "doctor.kvm": Text("KVM works."),
    "doctor.no-kvm": Text("There is no /dev/kvm; only a hypervisor host needs it."),
    "doctor.kvm-rights": Text(
        "Whether KVM works cannot be told: this user may not open /dev/kvm.",
        "Nothing to do when no guest runs on this machine; else run once, as root: "
        "hotspare doctor"),
    "doctor.kvm-hangs": Text(
        "/dev/kvm is there, but hangs or is far too slow: it did not do 30 ms of work in "
        "{seconds} s.",
        "Guests on this machine would hang: mend the nested virtualisation of the machine below. "
        "Until then unload the module kvm_intel or kvm_amd: while /dev/kvm is there, libvirt "
        "tries it anew at each start of QEMU, which makes every receiver and failover here some "
        "20 s slower."),
    "doctor.kvm-unusable": Text(
        "/dev/kvm cannot be used: {error}.",
        "Guests on this machine run emulated, slowly. While /dev/kvm is there, libvirt tries it "
        "anew at each start of QEMU, which makes every receiver and failover here some 20 s "
        "slower: turn virtualisation on in the firmware, or unload kvm_intel or kvm_amd."),
}
