BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	user VARCHAR(64) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	object VARCHAR(64) NOT NULL, 
	detail JSON NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,1.7956457983480608463e+09,'hotspare','user.add','admin','{"role": "administrator"}');
INSERT INTO "audit" VALUES(2,1.79564579835002207752e+09,'admin','platform.add','98b8eba3','{"name": "src", "kind": "libvirt", "uri": "qemu+ssh://source/system"}');
INSERT INTO "audit" VALUES(3,1.79564579837360620501e+09,'admin','platform.add','262e95ab','{"name": "dst", "kind": "libvirt", "uri": "qemu+ssh://target/system"}');
INSERT INTO "audit" VALUES(4,1.79564579838922500605e+09,'admin','platform.add','bb8efda7','{"name": "secret", "kind": "libvirt", "uri": "qemu+ssh://third/system"}');
INSERT INTO "audit" VALUES(5,1795645798.40595,'olga','rule.create','0e27564c','{"name": "periodic", "vm": "uuid-0", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(6,1.79564579841353797913e+09,'olga','rule.create','7a602b4f','{"name": "once", "vm": "uuid-1", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(7,1.79564579841675209994e+09,'olga','rule.create','cb4c76a6','{"name": "paused", "vm": "uuid-2", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(8,1.79564579842020678518e+09,'olga','rule.create','7f2e87b1','{"name": "gone", "vm": "uuid-3", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(9,1.79564579842292141916e+09,'olga','rule.create','c5b24bcc','{"name": "over", "vm": "uuid-4", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(10,1.79564579842534255979e+09,'olga','rule.create','6554c10f','{"name": "failed", "vm": "uuid-5", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(11,1.79564579842847061152e+09,'olga','rule.create','b325dd17','{"name": "stopped", "vm": "uuid-6", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(12,1.79564579843097186086e+09,'olga','rule.start','0e27564c','{"task": 4}');
INSERT INTO "audit" VALUES(13,1.79564579846331357957e+09,'olga','rule.start','0e27564c','{"task": 5}');
INSERT INTO "audit" VALUES(14,1.79564579849061155322e+09,'olga','rule.start','7a602b4f','{"task": 6}');
INSERT INTO "audit" VALUES(15,1.79564579851813077926e+09,'olga','rule.start','7a602b4f','{"task": 7}');
INSERT INTO "audit" VALUES(16,1.79564579854789328578e+09,'olga','rule.start','c5b24bcc','{"task": 8}');
INSERT INTO "audit" VALUES(17,1.79564579857397580145e+09,'olga','rule.start','c5b24bcc','{"task": 9}');
INSERT INTO "audit" VALUES(18,1.7956457986021797657e+09,'olga','rule.start','7f2e87b1','{"task": 10}');
INSERT INTO "audit" VALUES(19,1.79564579862353110315e+09,'olga','rule.start','7f2e87b1','{"task": 11}');
INSERT INTO "audit" VALUES(20,1.79564579865331888199e+09,'olga','rule.start','b325dd17','{"task": 12}');
INSERT INTO "audit" VALUES(21,1.79564579868278622622e+09,'olga','rule.start','b325dd17','{"task": 13}');
INSERT INTO "audit" VALUES(22,1.79564579871106362344e+09,'olga','rule.start','6554c10f','{"task": 14}');
INSERT INTO "audit" VALUES(23,1.79564579873886084556e+09,'olga','rule.delete','7f2e87b1','{"task": 15, "delete_replica": false, "force": false}');
INSERT INTO "audit" VALUES(24,1.79564579875064325329e+09,'olga','rule.failover','c5b24bcc','{"task": 16, "point": 1}');
INSERT INTO "audit" VALUES(25,1.79564579876033854483e+09,'olga','rule.start','b325dd17','{"task": 17}');
INSERT INTO "audit" VALUES(26,1.79564579877660322184e+09,'olga','rule.stop','b325dd17','{"task": 17}');
INSERT INTO "audit" VALUES(27,1.79564579879216766359e+09,'olga','rule.create','b3f795c5','{"name": "running", "vm": "uuid-7", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(28,1.7956457987947976589e+09,'olga','rule.start','b3f795c5','{"task": 18}');
INSERT INTO "audit" VALUES(29,1.79564579881156897544e+09,'olga','rule.create','880d22c3','{"name": "more8", "vm": "uuid-8", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(30,1.79564579881420183183e+09,'olga','rule.create','91680952','{"name": "more9", "vm": "uuid-9", "source": "98b8eba3", "target": "262e95ab"}');
INSERT INTO "audit" VALUES(31,1.79564579881718492512e+09,'olga','rule.start','880d22c3','{"task": 19}');
INSERT INTO "audit" VALUES(32,1.79564579882068753235e+09,'olga','rule.start','91680952','{"task": 20}');
CREATE TABLE log (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	level VARCHAR(16) NOT NULL, 
	code VARCHAR(64) NOT NULL, 
	fields JSON NOT NULL, 
	rule VARCHAR(8), 
	platform VARCHAR(8), 
	task INTEGER, 
	CONSTRAINT pk_log PRIMARY KEY (id), 
	CONSTRAINT fk_log_platform FOREIGN KEY(platform) REFERENCES platform (id), 
	CONSTRAINT fk_log_rule FOREIGN KEY(rule) REFERENCES rule (id), 
	CONSTRAINT fk_log_task FOREIGN KEY(task) REFERENCES task (id) ON DELETE CASCADE
);
INSERT INTO "log" VALUES(1,1.79564579836917495732e+09,'info','task.ended','{"outcome": "ok"}',NULL,'98b8eba3',1);
INSERT INTO "log" VALUES(2,1.79564579838149023056e+09,'info','task.ended','{"outcome": "ok"}',NULL,'262e95ab',2);
INSERT INTO "log" VALUES(3,1.79564579839797472957e+09,'info','task.ended','{"outcome": "ok"}',NULL,'bb8efda7',3);
INSERT INTO "log" VALUES(4,1795645798.40595,'info','rule.created','{"user": "olga"}','0e27564c',NULL,NULL);
INSERT INTO "log" VALUES(5,1.79564579841353797913e+09,'info','rule.created','{"user": "olga"}','7a602b4f',NULL,NULL);
INSERT INTO "log" VALUES(6,1.79564579841675209994e+09,'info','rule.created','{"user": "olga"}','cb4c76a6',NULL,NULL);
INSERT INTO "log" VALUES(7,1.79564579842020678518e+09,'info','rule.created','{"user": "olga"}','7f2e87b1',NULL,NULL);
INSERT INTO "log" VALUES(8,1.79564579842292141916e+09,'info','rule.created','{"user": "olga"}','c5b24bcc',NULL,NULL);
INSERT INTO "log" VALUES(9,1.79564579842534255979e+09,'info','rule.created','{"user": "olga"}','6554c10f',NULL,NULL);
INSERT INTO "log" VALUES(10,1.79564579842847061152e+09,'info','rule.created','{"user": "olga"}','b325dd17',NULL,NULL);
INSERT INTO "log" VALUES(11,1.79564579845448398596e+09,'info','task.ended','{"outcome": "ok"}','0e27564c',NULL,4);
INSERT INTO "log" VALUES(12,1.79564579848237514496e+09,'info','task.ended','{"outcome": "ok"}','0e27564c',NULL,5);
INSERT INTO "log" VALUES(13,1.79564579850975441933e+09,'info','task.ended','{"outcome": "ok"}','7a602b4f',NULL,6);
INSERT INTO "log" VALUES(14,1.79564579853802084924e+09,'info','task.ended','{"outcome": "ok"}','7a602b4f',NULL,7);
INSERT INTO "log" VALUES(15,1.79564579856896209715e+09,'info','task.ended','{"outcome": "ok"}','c5b24bcc',NULL,8);
INSERT INTO "log" VALUES(16,1.79564579859616065028e+09,'info','task.ended','{"outcome": "ok"}','c5b24bcc',NULL,9);
INSERT INTO "log" VALUES(17,1795645798.61959,'info','task.ended','{"outcome": "ok"}','7f2e87b1',NULL,10);
INSERT INTO "log" VALUES(18,1.79564579864512109761e+09,'info','task.ended','{"outcome": "ok"}','7f2e87b1',NULL,11);
INSERT INTO "log" VALUES(19,1.79564579867445778846e+09,'info','task.ended','{"outcome": "ok"}','b325dd17',NULL,12);
INSERT INTO "log" VALUES(20,1.7956457987028806209e+09,'info','task.ended','{"outcome": "ok"}','b325dd17',NULL,13);
INSERT INTO "log" VALUES(21,1.79564579873024868965e+09,'error','vm.not-found','{"vm": "x"}','6554c10f',NULL,14);
INSERT INTO "log" VALUES(22,1.79564579873024868965e+09,'info','task.ended','{"outcome": "failed"}','6554c10f',NULL,14);
INSERT INTO "log" VALUES(23,1.79564579874713039402e+09,'info','task.ended','{"outcome": "ok"}','7f2e87b1',NULL,15);
INSERT INTO "log" VALUES(24,1.79564579875690889356e+09,'info','task.ended','{"outcome": "ok"}','c5b24bcc',NULL,16);
INSERT INTO "log" VALUES(25,1.79564579878420138361e+09,'info','task.ended','{"outcome": "stopped"}','b325dd17',NULL,17);
INSERT INTO "log" VALUES(26,1.79564579879216766359e+09,'info','rule.created','{"user": "olga"}','b3f795c5',NULL,NULL);
INSERT INTO "log" VALUES(27,1.79564579881156897544e+09,'info','rule.created','{"user": "olga"}','880d22c3',NULL,NULL);
INSERT INTO "log" VALUES(28,1.79564579881420183183e+09,'info','rule.created','{"user": "olga"}','91680952',NULL,NULL);
CREATE TABLE machine (
	name VARCHAR(64) NOT NULL, 
	live BOOLEAN NOT NULL, 
	last_seen DOUBLE, 
	max_tasks INTEGER NOT NULL, 
	temp_dir TEXT NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_machine PRIMARY KEY (name)
);
INSERT INTO "machine" VALUES('local',1,1.79564579819940257077e+09,4,'/var/lib/hotspare/temp','0.1.0',1.79564579819940257077e+09);
CREATE TABLE platform (
	id VARCHAR(8) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	name_key VARCHAR(128) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	uri TEXT NOT NULL, 
	options JSON NOT NULL, 
	secret BLOB, 
	machine VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	product TEXT NOT NULL, 
	host_id TEXT NOT NULL, 
	checks JSON NOT NULL, 
	places JSON NOT NULL, 
	error JSON, 
	checked_at DOUBLE, 
	refreshed_at DOUBLE, 
	created_at DOUBLE NOT NULL, 
	deleted_at DOUBLE, 
	CONSTRAINT pk_platform PRIMARY KEY (id), 
	CONSTRAINT fk_platform_machine FOREIGN KEY(machine) REFERENCES machine (name)
);
INSERT INTO "platform" VALUES('98b8eba3','src','src','libvirt','qemu+ssh://source/system','{}',NULL,'local','ok','QEMU 7.2.0, libvirt 9.0.0','qemu+ssh://source/system','[{"name": "connect", "ok": true, "detail": "", "code": "", "fields": {}}]','[{"kind": "storage", "name": "default", "parent": "", "free": 1099511627776, "capacity": null, "usable": true, "reason": ""}, {"kind": "storage", "name": "lvm", "parent": "", "free": null, "capacity": null, "usable": false, "reason": "storage.unusable"}, {"kind": "network", "name": "lan", "parent": "", "free": null, "capacity": null, "usable": true, "reason": ""}]',NULL,1.79564579836428952217e+09,1.79564579836428952217e+09,1.79564579835002207752e+09,NULL);
INSERT INTO "platform" VALUES('262e95ab','dst','dst','libvirt','qemu+ssh://target/system','{}',NULL,'local','ok','QEMU 7.2.0, libvirt 9.0.0','qemu+ssh://target/system','[{"name": "connect", "ok": true, "detail": "", "code": "", "fields": {}}]','[{"kind": "storage", "name": "default", "parent": "", "free": 1099511627776, "capacity": null, "usable": true, "reason": ""}, {"kind": "storage", "name": "lvm", "parent": "", "free": null, "capacity": null, "usable": false, "reason": "storage.unusable"}, {"kind": "network", "name": "lan", "parent": "", "free": null, "capacity": null, "usable": true, "reason": ""}]',NULL,1.79564579837932777406e+09,1.79564579837932777406e+09,1.79564579837360620501e+09,NULL);
INSERT INTO "platform" VALUES('bb8efda7','secret','secret','libvirt','qemu+ssh://third/system','{}',X'0C9ED3268FD9386A3871F7D21A4D68566520D0ED7B7C2B43C5E3CC0C9FC2BD7A7DC3E973E6C2FE','local','ok','QEMU 7.2.0, libvirt 9.0.0','qemu+ssh://third/system','[{"name": "connect", "ok": true, "detail": "", "code": "", "fields": {}}]','[{"kind": "storage", "name": "default", "parent": "", "free": 1099511627776, "capacity": null, "usable": true, "reason": ""}, {"kind": "storage", "name": "lvm", "parent": "", "free": null, "capacity": null, "usable": false, "reason": "storage.unusable"}, {"kind": "network", "name": "lan", "parent": "", "free": null, "capacity": null, "usable": true, "reason": ""}]',NULL,1.79564579839591288573e+09,1.79564579839591288573e+09,1.79564579838922500605e+09,NULL);
CREATE TABLE platform_vm (
	platform VARCHAR(8) NOT NULL, 
	ref VARCHAR(255) NOT NULL, 
	name TEXT NOT NULL, 
	power VARCHAR(16) NOT NULL, 
	size BIGINT NOT NULL, 
	protectable BOOLEAN NOT NULL, 
	reason TEXT NOT NULL, 
	fields JSON NOT NULL, 
	CONSTRAINT pk_platform_vm PRIMARY KEY (platform, ref), 
	CONSTRAINT fk_platform_vm_platform FOREIGN KEY(platform) REFERENCES platform (id) ON DELETE CASCADE
);
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-0','web0','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-1','web1','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-2','web2','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-3','web3','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-4','web4','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-5','web5','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-6','web6','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-7','web7','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-8','web8','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-9','web9','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('98b8eba3','uuid-bad','transient','running',1,0,'vm.unprotectable','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-0','web0','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-1','web1','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-2','web2','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-3','web3','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-4','web4','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-5','web5','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-6','web6','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-7','web7','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-8','web8','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-9','web9','running',1073741824,1,'','{}');
INSERT INTO "platform_vm" VALUES('bb8efda7','uuid-bad','transient','running',1,0,'vm.unprotectable','{}');
CREATE TABLE restore_point (
	rule VARCHAR(8) NOT NULL, 
	number INTEGER NOT NULL, 
	task INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	taken_at DOUBLE NOT NULL, 
	consistency VARCHAR(16) NOT NULL, 
	note TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	moved BIGINT NOT NULL, 
	manifest JSON NOT NULL, 
	CONSTRAINT pk_restore_point PRIMARY KEY (rule, number), 
	CONSTRAINT fk_restore_point_rule FOREIGN KEY(rule) REFERENCES rule (id) ON DELETE CASCADE
);
INSERT INTO "restore_point" VALUES('0e27564c',1,4,1,1.79564579845247626306e+09,'crash','',1073741824,1048576,'{"rule": "0e27564c", "number": 1, "epoch": 1, "task": 4, "taken_at": 1795645798.4524763, "consistency": "crash", "vm": {"ref": "uuid-0", "name": "web", "uuid": "uuid-0", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f1", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
INSERT INTO "restore_point" VALUES('0e27564c',2,5,1,1.7956457984810118675e+09,'crash','',1073741824,1048576,'{"rule": "0e27564c", "number": 2, "epoch": 1, "task": 5, "taken_at": 1795645798.4810119, "consistency": "crash", "vm": {"ref": "uuid-0", "name": "web", "uuid": "uuid-0", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f2", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
INSERT INTO "restore_point" VALUES('7a602b4f',1,6,1,1.79564579850850725172e+09,'crash','',1073741824,1048576,'{"rule": "7a602b4f", "number": 1, "epoch": 1, "task": 6, "taken_at": 1795645798.5085073, "consistency": "crash", "vm": {"ref": "uuid-1", "name": "web", "uuid": "uuid-1", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f1", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
INSERT INTO "restore_point" VALUES('7a602b4f',2,7,1,1.79564579853624463083e+09,'crash','',1073741824,1048576,'{"rule": "7a602b4f", "number": 2, "epoch": 1, "task": 7, "taken_at": 1795645798.5362446, "consistency": "crash", "vm": {"ref": "uuid-1", "name": "web", "uuid": "uuid-1", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f2", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
INSERT INTO "restore_point" VALUES('c5b24bcc',1,8,1,1.79564579856723666195e+09,'crash','',1073741824,1048576,'{"rule": "c5b24bcc", "number": 1, "epoch": 1, "task": 8, "taken_at": 1795645798.5672367, "consistency": "crash", "vm": {"ref": "uuid-4", "name": "web", "uuid": "uuid-4", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f1", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
INSERT INTO "restore_point" VALUES('c5b24bcc',2,9,1,1.79564579859423351288e+09,'crash','',1073741824,1048576,'{"rule": "c5b24bcc", "number": 2, "epoch": 1, "task": 9, "taken_at": 1795645798.5942335, "consistency": "crash", "vm": {"ref": "uuid-4", "name": "web", "uuid": "uuid-4", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f2", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
INSERT INTO "restore_point" VALUES('b325dd17',1,12,1,1.79564579867323231704e+09,'crash','',1073741824,1048576,'{"rule": "b325dd17", "number": 1, "epoch": 1, "task": 12, "taken_at": 1795645798.6732323, "consistency": "crash", "vm": {"ref": "uuid-6", "name": "web", "uuid": "uuid-6", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f1", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
INSERT INTO "restore_point" VALUES('b325dd17',2,13,1,1.79564579870155453678e+09,'crash','',1073741824,1048576,'{"rule": "b325dd17", "number": 2, "epoch": 1, "task": 13, "taken_at": 1795645798.7015545, "consistency": "crash", "vm": {"ref": "uuid-6", "name": "web", "uuid": "uuid-6", "memory": 268435456, "vcpus": 1, "arch": "x86_64", "machine": "q35", "virt": "kvm", "firmware": "bios", "cpu": {"mode": "", "model": "", "features": [], "sockets": 0, "cores": 0, "threads": 0}, "clock": "utc", "disks": [{"id": "vda", "size": 1073741824, "bus": "virtio", "controller": "", "boot_order": null, "format": "qcow2", "location": "", "tracking": true, "serial": ""}], "nics": [], "features": [], "agent": false, "serial_console": false, "video": "", "rng": false, "power": "off", "warnings": []}, "disks": [{"id": "vda", "size": 1073741824, "file": "f2", "moved": 1048576, "changed": 0}], "digests": [], "firmware_state": null, "tracking": null, "note": "", "format": 1}');
CREATE TABLE rule (
	id VARCHAR(8) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	name_key VARCHAR(128) NOT NULL, 
	source VARCHAR(8) NOT NULL, 
	vm VARCHAR(255) NOT NULL, 
	vm_name TEXT NOT NULL, 
	target VARCHAR(8) NOT NULL, 
	storage TEXT NOT NULL, 
	replica_name TEXT NOT NULL, 
	networks JSON NOT NULL, 
	machine VARCHAR(64) NOT NULL, 
	retention INTEGER NOT NULL, 
	quiesce VARCHAR(16) NOT NULL, 
	bandwidth BIGINT, 
	interval_s INTEGER, 
	enabled BOOLEAN NOT NULL, 
	next_run_at DOUBLE, 
	epoch INTEGER NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	own_state VARCHAR(32) NOT NULL, 
	state_before VARCHAR(32), 
	failover_point INTEGER, 
	failover_detail JSON, 
	last_result VARCHAR(16), 
	last_error JSON, 
	last_task INTEGER, 
	last_success_at DOUBLE, 
	created_at DOUBLE NOT NULL, 
	created_by VARCHAR(64) NOT NULL, 
	deleted_at DOUBLE, 
	CONSTRAINT pk_rule PRIMARY KEY (id), 
	CONSTRAINT fk_rule_machine FOREIGN KEY(machine) REFERENCES machine (name), 
	CONSTRAINT fk_rule_source FOREIGN KEY(source) REFERENCES platform (id), 
	CONSTRAINT fk_rule_target FOREIGN KEY(target) REFERENCES platform (id)
);
INSERT INTO "rule" VALUES('0e27564c','periodic','periodic','98b8eba3','uuid-0','web0','262e95ab','default','web0','{}','local',7,'try',10000000,900,1,1.79564669846331357956e+09,1,'idle','idle',NULL,NULL,NULL,'ok',NULL,5,1.79564579848237514496e+09,1795645798.40595,'olga',NULL);
INSERT INTO "rule" VALUES('7a602b4f','once','once','98b8eba3','uuid-1','web1','262e95ab','default','web1','{}','local',7,'try',NULL,NULL,0,NULL,1,'finished','finished',NULL,NULL,NULL,'ok',NULL,7,1.79564579853802084924e+09,1.79564579841353797913e+09,'olga',NULL);
INSERT INTO "rule" VALUES('cb4c76a6','paused','paused','98b8eba3','uuid-2','web2','262e95ab','default','web2','{}','local',7,'try',0,2678400,0,NULL,1,'stopped','stopped',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79564579841675209994e+09,'olga',NULL);
INSERT INTO "rule" VALUES('7f2e87b1','gone','gone','98b8eba3','uuid-3','web3','262e95ab','default','web3','{}','local',7,'try',NULL,10,0,NULL,1,'finished','finished','idle',NULL,NULL,'ok',NULL,15,1.79564579864512109761e+09,1.79564579842020678518e+09,'olga',1.79564579874713039402e+09);
INSERT INTO "rule" VALUES('c5b24bcc','over','over','98b8eba3','uuid-4','web4','262e95ab','default','web4','{}','local',2,'off',NULL,3600,1,1.79564939857397580145e+09,1,'temporary-failover','temporary-failover','idle',1,'{"name": "web"}','ok',NULL,16,1.79564579859616065028e+09,1.79564579842292141916e+09,'olga',NULL);
INSERT INTO "rule" VALUES('6554c10f','failed','failed','98b8eba3','uuid-5','web5','262e95ab','default','web5','{}','local',7,'try',NULL,3600,1,1.79564939871106362344e+09,1,'idle','idle',NULL,NULL,NULL,'failed','{"code": "vm.not-found", "message": "There is no such machine: <reason>.", "remedy": "", "fields": {"vm": "x"}}',14,NULL,1.79564579842534255979e+09,'olga',NULL);
INSERT INTO "rule" VALUES('b325dd17','stopped','stopped','98b8eba3','uuid-6','web6','262e95ab','default','web6','{}','local',7,'try',NULL,NULL,0,NULL,1,'stopped','stopped',NULL,NULL,NULL,'stopped',NULL,17,1.7956457987028806209e+09,1.79564579842847061152e+09,'olga',NULL);
INSERT INTO "rule" VALUES('b3f795c5','running','running','98b8eba3','uuid-7','web7','262e95ab','default','web7','{}','local',7,'try',NULL,3600,1,1.7956493987947976589e+09,1,'running','running',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79564579879216766359e+09,'olga',NULL);
INSERT INTO "rule" VALUES('880d22c3','more8','more8','98b8eba3','uuid-8','web8','262e95ab','default','web8','{}','local',7,'try',NULL,NULL,0,NULL,1,'running','running',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79564579881156897544e+09,'olga',NULL);
INSERT INTO "rule" VALUES('91680952','more9','more9','98b8eba3','uuid-9','web9','262e95ab','default','web9','{}','local',7,'try',NULL,NULL,0,NULL,1,'running','running',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79564579881420183183e+09,'olga',NULL);
CREATE TABLE setting (
	"key" VARCHAR(64) NOT NULL, 
	value JSON NOT NULL, 
	CONSTRAINT pk_setting PRIMARY KEY ("key")
);
CREATE TABLE task (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	kind VARCHAR(16) NOT NULL, 
	rule VARCHAR(8), 
	platform VARCHAR(8), 
	machine VARCHAR(64) NOT NULL, 
	epoch INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	outcome VARCHAR(16), 
	stop BOOLEAN NOT NULL, 
	reason JSON, 
	point INTEGER, 
	arguments JSON NOT NULL, 
	settings JSON, 
	source_host TEXT, 
	target_host TEXT, 
	progress JSON, 
	error JSON, 
	figures JSON NOT NULL, 
	"trigger" VARCHAR(16) NOT NULL, 
	requested_by VARCHAR(64) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	dispatched_at DOUBLE, 
	started_at DOUBLE, 
	ended_at DOUBLE, 
	CONSTRAINT fk_task_machine FOREIGN KEY(machine) REFERENCES machine (name), 
	CONSTRAINT fk_task_platform FOREIGN KEY(platform) REFERENCES platform (id), 
	CONSTRAINT fk_task_rule FOREIGN KEY(rule) REFERENCES rule (id)
);
INSERT INTO "task" VALUES(1,'check',NULL,'98b8eba3','local',0,20,'ended','ok',0,NULL,NULL,'{"refresh": true}',NULL,NULL,NULL,NULL,NULL,'{"moved": 1048576}','manual','admin',1.79564579835002207752e+09,1.79564579835002207752e+09,1.79564579835969376567e+09,1.79564579836917495732e+09);
INSERT INTO "task" VALUES(2,'check',NULL,'262e95ab','local',0,20,'ended','ok',0,NULL,NULL,'{"refresh": true}',NULL,NULL,NULL,NULL,NULL,'{"moved": 1048576}','manual','admin',1.79564579837360620501e+09,1.79564579837360620501e+09,1.79564579837740802767e+09,1.79564579838149023056e+09);
INSERT INTO "task" VALUES(3,'check',NULL,'bb8efda7','local',0,20,'ended','ok',0,NULL,NULL,'{"refresh": true}',NULL,NULL,NULL,NULL,NULL,'{"moved": 1048576}','manual','admin',1.79564579838922500605e+09,1.79564579838922500605e+09,1.79564579839403247831e+09,1.79564579839797472957e+09);
INSERT INTO "task" VALUES(4,'replicate','0e27564c',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "0e27564c", "name": "periodic", "vm": "uuid-0", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web0", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": 10000000, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579843097186086e+09,1.79564579843097186086e+09,1.7956457984389071464e+09,1.79564579845448398596e+09);
INSERT INTO "task" VALUES(5,'replicate','0e27564c',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "0e27564c", "name": "periodic", "vm": "uuid-0", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web0", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": 10000000, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579846331357957e+09,1.79564579846331357957e+09,1.7956457984676325321e+09,1.79564579848237514496e+09);
INSERT INTO "task" VALUES(6,'replicate','7a602b4f',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "7a602b4f", "name": "once", "vm": "uuid-1", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web1", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579849061155322e+09,1.79564579849061155322e+09,1.79564579849567508692e+09,1.79564579850975441933e+09);
INSERT INTO "task" VALUES(7,'replicate','7a602b4f',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "7a602b4f", "name": "once", "vm": "uuid-1", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web1", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579851813077926e+09,1.79564579851813077926e+09,1.79564579852390718457e+09,1.79564579853802084924e+09);
INSERT INTO "task" VALUES(8,'replicate','c5b24bcc',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "c5b24bcc", "name": "over", "vm": "uuid-4", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web4", "networks": {}, "retention": 2, "quiesce": "off", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579854789328578e+09,1.79564579854789328578e+09,1.79564579855176663404e+09,1.79564579856896209715e+09);
INSERT INTO "task" VALUES(9,'replicate','c5b24bcc',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "c5b24bcc", "name": "over", "vm": "uuid-4", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web4", "networks": {}, "retention": 2, "quiesce": "off", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579857397580145e+09,1.79564579857397580145e+09,1.79564579857967305184e+09,1.79564579859616065028e+09);
INSERT INTO "task" VALUES(10,'replicate','7f2e87b1',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "7f2e87b1", "name": "gone", "vm": "uuid-3", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web3", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.7956457986021797657e+09,1.7956457986021797657e+09,1.79564579860612154003e+09,1795645798.61959);
INSERT INTO "task" VALUES(11,'replicate','7f2e87b1',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "7f2e87b1", "name": "gone", "vm": "uuid-3", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web3", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579862353110315e+09,1.79564579862353110315e+09,1.79564579862764692307e+09,1.79564579864512109761e+09);
INSERT INTO "task" VALUES(12,'replicate','b325dd17',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "b325dd17", "name": "stopped", "vm": "uuid-6", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web6", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579865331888199e+09,1.79564579865331888199e+09,1.79564579866001081467e+09,1.79564579867445778846e+09);
INSERT INTO "task" VALUES(13,'replicate','b325dd17',NULL,'local',1,100,'ended','ok',0,NULL,NULL,'{}','{"id": "b325dd17", "name": "stopped", "vm": "uuid-6", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web6", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{"moved": 1048576}','manual','olga',1.79564579868278622622e+09,1.79564579868278622622e+09,1.79564579868675804142e+09,1.7956457987028806209e+09);
INSERT INTO "task" VALUES(14,'replicate','6554c10f',NULL,'local',1,100,'ended','failed',0,NULL,NULL,'{}','{"id": "6554c10f", "name": "failed", "vm": "uuid-5", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web5", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}','{"code": "vm.not-found", "message": "There is no such machine: <reason>.", "remedy": "", "fields": {"vm": "x"}}','{}','manual','olga',1.79564579871106362344e+09,1.79564579871106362344e+09,1.79564579871528029442e+09,1.79564579873024868965e+09);
INSERT INTO "task" VALUES(15,'remove','7f2e87b1',NULL,'local',1,50,'ended','ok',0,NULL,NULL,'{"delete_replica": false, "force": false}','{"id": "7f2e87b1", "name": "gone", "vm": "uuid-3", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web3", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system',NULL,NULL,'{"moved": 1048576}','manual','olga',1.79564579873886084556e+09,1.79564579873886084556e+09,1.79564579874484705926e+09,1.79564579874713039402e+09);
INSERT INTO "task" VALUES(16,'failover','c5b24bcc',NULL,'local',1,10,'ended','ok',0,NULL,1,'{}','{"id": "c5b24bcc", "name": "over", "vm": "uuid-4", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web4", "networks": {}, "retention": 2, "quiesce": "off", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system',NULL,NULL,'{"moved": 1048576}','manual','olga',1.79564579875064325329e+09,1.79564579875064325329e+09,1.79564579875480675695e+09,1.79564579875690889356e+09);
INSERT INTO "task" VALUES(17,'replicate','b325dd17',NULL,'local',1,100,'ended','stopped',1,NULL,NULL,'{}','{"id": "b325dd17", "name": "stopped", "vm": "uuid-6", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web6", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{}','manual','olga',1.79564579876033854483e+09,1.79564579876033854483e+09,1.79564579876474809646e+09,1.79564579878420138361e+09);
INSERT INTO "task" VALUES(18,'replicate','b3f795c5',NULL,'local',1,100,'running',NULL,0,NULL,NULL,'{}','{"id": "b3f795c5", "name": "running", "vm": "uuid-7", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web7", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{}','manual','olga',1.7956457987947976589e+09,1.7956457987947976589e+09,1.79564579879955220223e+09,NULL);
INSERT INTO "task" VALUES(19,'replicate','880d22c3',NULL,'local',1,100,'running',NULL,0,NULL,NULL,'{}','{"id": "880d22c3", "name": "more8", "vm": "uuid-8", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web8", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{}','manual','olga',1.79564579881718492512e+09,1.79564579881718492512e+09,1.7956457988243272304e+09,NULL);
INSERT INTO "task" VALUES(20,'replicate','91680952',NULL,'local',1,100,'running',NULL,0,NULL,NULL,'{}','{"id": "91680952", "name": "more9", "vm": "uuid-9", "source": "98b8eba3", "target": "262e95ab", "storage": "default", "replica_name": "web9", "networks": {}, "retention": 7, "quiesce": "try", "bandwidth": null, "transfer_buffer": 4194304, "temp_dir": "/var/lib/hotspare/temp"}','qemu+ssh://source/system','qemu+ssh://target/system','{"step": "transfer", "done": 524288, "total": 1048576, "rate": 1000000.0, "seconds_left": 0.5, "disks": {}}',NULL,'{}','manual','olga',1.79564579882068753235e+09,1.79564579882068753235e+09,1795645798.82856,NULL);
CREATE TABLE task_step (
	task INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	position INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	detail JSON NOT NULL, 
	started_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	CONSTRAINT pk_task_step PRIMARY KEY (task, name), 
	CONSTRAINT fk_task_step_task FOREIGN KEY(task) REFERENCES task (id) ON DELETE CASCADE
);
INSERT INTO "task_step" VALUES(1,'check',0,'done',1,'{}',1.79564579835969376567e+09,1.79564579836780047411e+09);
INSERT INTO "task_step" VALUES(2,'check',0,'done',1,'{}',1.79564579837740802767e+09,1.795645798380546093e+09);
INSERT INTO "task_step" VALUES(3,'check',0,'done',1,'{}',1.79564579839403247831e+09,1.79564579839716386799e+09);
INSERT INTO "task_step" VALUES(4,'create-replica',0,'done',1,'{"bytes": 1048576}',1.7956457984389071464e+09,1.79564579844116187093e+09);
INSERT INTO "task_step" VALUES(4,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579844209027291e+09,1.79564579844399690631e+09);
INSERT INTO "task_step" VALUES(4,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579844482159615e+09,1.79564579844600653649e+09);
INSERT INTO "task_step" VALUES(4,'transfer',3,'done',1,'{"bytes": 1048576}',1795645798.44681,1.79564579844929218289e+09);
INSERT INTO "task_step" VALUES(4,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579845044183727e+09,1.79564579845167493826e+09);
INSERT INTO "task_step" VALUES(5,'create-replica',0,'done',1,'{"bytes": 1048576}',1.7956457984676325321e+09,1.79564579846993422514e+09);
INSERT INTO "task_step" VALUES(5,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579847088503835e+09,1.79564579847272634506e+09);
INSERT INTO "task_step" VALUES(5,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579847355365758e+09,1.79564579847473597528e+09);
INSERT INTO "task_step" VALUES(5,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579847562217707e+09,1.79564579847753882403e+09);
INSERT INTO "task_step" VALUES(5,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579847885274891e+09,1795645798.48022);
INSERT INTO "task_step" VALUES(6,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579849567508692e+09,1.79564579849770283694e+09);
INSERT INTO "task_step" VALUES(6,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579849859523768e+09,1.7956457985003581047e+09);
INSERT INTO "task_step" VALUES(6,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579850115847584e+09,1.79564579850230097773e+09);
INSERT INTO "task_step" VALUES(6,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579850311112404e+09,1.79564579850510311126e+09);
INSERT INTO "task_step" VALUES(6,'publish',4,'done',1,'{"bytes": 1048576}',1795645798.50637,1.79564579850755810744e+09);
INSERT INTO "task_step" VALUES(7,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579852390718457e+09,1.79564579852566862105e+09);
INSERT INTO "task_step" VALUES(7,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579852654981613e+09,1.79564579852773404116e+09);
INSERT INTO "task_step" VALUES(7,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579852857518198e+09,1.7956457985302209854e+09);
INSERT INTO "task_step" VALUES(7,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579853104877476e+09,1.79564579853304195399e+09);
INSERT INTO "task_step" VALUES(7,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579853385949135e+09,1.79564579853545475008e+09);
INSERT INTO "task_step" VALUES(8,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579855176663404e+09,1.79564579855725884433e+09);
INSERT INTO "task_step" VALUES(8,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579855809068687e+09,1.79564579855935239796e+09);
INSERT INTO "task_step" VALUES(8,'query-changes',2,'done',1,'{"bytes": 1048576}',1795645798.5602,1.7956457985615844726e+09);
INSERT INTO "task_step" VALUES(8,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579856279230114e+09,1.79564579856464552878e+09);
INSERT INTO "task_step" VALUES(8,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579856541514397e+09,1.79564579856650447841e+09);
INSERT INTO "task_step" VALUES(9,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579857967305184e+09,1.79564579858165502546e+09);
INSERT INTO "task_step" VALUES(9,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579858245182038e+09,1.79564579858431148527e+09);
INSERT INTO "task_step" VALUES(9,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579858510756493e+09,1.79564579858636116978e+09);
INSERT INTO "task_step" VALUES(9,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579858713769915e+09,1.7956457985913281441e+09);
INSERT INTO "task_step" VALUES(9,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579859225106244e+09,1.79564579859345054631e+09);
INSERT INTO "task_step" VALUES(10,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579860612154003e+09,1.79564579860773444177e+09);
INSERT INTO "task_step" VALUES(10,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579860872983933e+09,1.79564579861000275613e+09);
INSERT INTO "task_step" VALUES(10,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579861082863811e+09,1.79564579861251950266e+09);
INSERT INTO "task_step" VALUES(10,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579861331868166e+09,1.79564579861514973637e+09);
INSERT INTO "task_step" VALUES(10,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579861601948738e+09,1.79564579861760163304e+09);
INSERT INTO "task_step" VALUES(11,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579862764692307e+09,1.79564579862955021861e+09);
INSERT INTO "task_step" VALUES(11,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579863044404984e+09,1.79564579863181400304e+09);
INSERT INTO "task_step" VALUES(11,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579863325905796e+09,1.79564579863441705701e+09);
INSERT INTO "task_step" VALUES(11,'transfer',3,'done',1,'{"bytes": 1048576}',1795645798.63525,1.79564579863724970822e+09);
INSERT INTO "task_step" VALUES(11,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579864035248754e+09,1795645798.64156);
INSERT INTO "task_step" VALUES(12,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579866001081467e+09,1.79564579866154170034e+09);
INSERT INTO "task_step" VALUES(12,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579866242194174e+09,1.79564579866412949568e+09);
INSERT INTO "task_step" VALUES(12,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579866533350943e+09,1.79564579866655325886e+09);
INSERT INTO "task_step" VALUES(12,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579866731882096e+09,1.7956457986698021889e+09);
INSERT INTO "task_step" VALUES(12,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579867077803608e+09,1.79564579867201328279e+09);
INSERT INTO "task_step" VALUES(13,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579868675804142e+09,1.79564579868895649907e+09);
INSERT INTO "task_step" VALUES(13,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579869025611877e+09,1.79564579869259357451e+09);
INSERT INTO "task_step" VALUES(13,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579869359278686e+09,1.79564579869496226309e+09);
INSERT INTO "task_step" VALUES(13,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579869596409799e+09,1.79564579869847536089e+09);
INSERT INTO "task_step" VALUES(13,'publish',4,'done',1,'{"bytes": 1048576}',1.79564579869942116735e+09,1.79564579870072436331e+09);
INSERT INTO "task_step" VALUES(14,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579871528029442e+09,1.79564579871712803839e+09);
INSERT INTO "task_step" VALUES(14,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579871804475786e+09,1.79564579871928668023e+09);
INSERT INTO "task_step" VALUES(14,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579872015476222e+09,1.79564579872174572951e+09);
INSERT INTO "task_step" VALUES(14,'transfer',3,'done',1,'{"bytes": 1048576}',1.79564579872255015375e+09,1.79564579872453761099e+09);
INSERT INTO "task_step" VALUES(14,'publish',4,'done',1,'{"bytes": 1048576}',1.7956457987253706455e+09,1.79564579872694849967e+09);
INSERT INTO "task_step" VALUES(15,'clean-source',0,'done',1,'{}',1.79564579874484705926e+09,1.79564579874713039402e+09);
INSERT INTO "task_step" VALUES(16,'restore-snapshot',0,'done',1,'{}',1.79564579875480675695e+09,1.79564579875690889356e+09);
INSERT INTO "task_step" VALUES(17,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579876474809646e+09,1.79564579876609158514e+09);
INSERT INTO "task_step" VALUES(17,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579876758098598e+09,1.79564579876907896988e+09);
INSERT INTO "task_step" VALUES(17,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579877079653737e+09,1.79564579877212285993e+09);
INSERT INTO "task_step" VALUES(17,'transfer',3,'stopped',1,'{}',1.79564579877298164363e+09,1.79564579878420138361e+09);
INSERT INTO "task_step" VALUES(18,'create-replica',0,'done',1,'{"bytes": 1048576}',1.79564579879955220223e+09,1.79564579880095791814e+09);
INSERT INTO "task_step" VALUES(18,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579880186152458e+09,1.79564579880310320851e+09);
INSERT INTO "task_step" VALUES(18,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579880402183532e+09,1.79564579880604648586e+09);
INSERT INTO "task_step" VALUES(18,'transfer',3,'running',1,'{}',1.79564579880705904959e+09,NULL);
INSERT INTO "task_step" VALUES(19,'create-replica',0,'done',1,'{"bytes": 1048576}',1.7956457988243272304e+09,1.7956457988276319504e+09);
INSERT INTO "task_step" VALUES(20,'create-replica',0,'done',1,'{"bytes": 1048576}',1795645798.82856,1.79564579883127188684e+09);
INSERT INTO "task_step" VALUES(19,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579883004331586e+09,1.79564579883263015745e+09);
INSERT INTO "task_step" VALUES(20,'read-configuration',1,'done',1,'{"bytes": 1048576}',1.79564579883349275581e+09,1.79564579883601784706e+09);
INSERT INTO "task_step" VALUES(19,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579883472561841e+09,1.79564579883689928057e+09);
INSERT INTO "task_step" VALUES(20,'query-changes',2,'done',1,'{"bytes": 1048576}',1.79564579883932828908e+09,1.79564579884224104883e+09);
INSERT INTO "task_step" VALUES(19,'transfer',3,'running',1,'{}',1.79564579884096717837e+09,NULL);
INSERT INTO "task_step" VALUES(20,'transfer',3,'running',1,'{}',1.79564579884458446496e+09,NULL);
CREATE TABLE token (
	digest VARCHAR(64) NOT NULL, 
	user VARCHAR(64) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	expires_at DOUBLE, 
	CONSTRAINT pk_token PRIMARY KEY (digest), 
	CONSTRAINT fk_token_user FOREIGN KEY(user) REFERENCES user (name) ON DELETE CASCADE
);
CREATE TABLE user (
	name VARCHAR(64) NOT NULL, 
	password TEXT, 
	role VARCHAR(16) NOT NULL, 
	disabled BOOLEAN NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_user PRIMARY KEY (name)
);
INSERT INTO "user" VALUES('admin','$argon2id$v=19$m=65536,t=2,p=2$IKa4/qZ+PgyIZng/7nziRA$lOQg97q5OGza/EpFFmQmk2uIlCBtUt3BpfjXULMsuZE','administrator',0,1.7956457983480608463e+09);
CREATE UNIQUE INDEX uq_platform_name_key ON platform (name_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX uq_platform_uri ON platform (kind, uri) WHERE deleted_at IS NULL;
CREATE INDEX ix_token_user ON token (user);
CREATE INDEX ix_platform_vm_name ON platform_vm (platform, name);
CREATE INDEX ix_rule_machine ON rule (machine);
CREATE INDEX ix_rule_next_run_at ON rule (next_run_at) WHERE deleted_at IS NULL AND enabled;
CREATE UNIQUE INDEX uq_rule_name_key ON rule (name_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX uq_rule_source_vm ON rule (source, vm) WHERE deleted_at IS NULL;
CREATE INDEX ix_task_live ON task (state, machine) WHERE state <> 'ended';
CREATE INDEX ix_task_rule ON task (rule, id);
CREATE UNIQUE INDEX uq_task_live_platform ON task (platform, kind) WHERE state <> 'ended' AND platform IS NOT NULL;
CREATE UNIQUE INDEX uq_task_live_rule ON task (rule) WHERE state <> 'ended' AND rule IS NOT NULL;
CREATE INDEX ix_log_rule ON log (rule, id);
CREATE INDEX ix_log_task ON log (task, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('task',20);
COMMIT;
