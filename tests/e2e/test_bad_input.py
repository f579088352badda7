"""What people get wrong: a clear error with cause and remedy, a stable code, and nothing broken.

Through the real command, as a script (``--json``) and as a person meet it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from hotspare.domain.errors import HotspareError
from hotspare.domain.messages import catalogue

from .rig import Rig, Said, Server, gated_run, hotspare, remove_replicas

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab

MIB = 1 << 20
PLACEHOLDER = re.compile(r"<[a-z_]+>")     # what a text shows for a field that it was not given
FAILURE, INPUT, MISSING, STATE, AUTH, UNREACHABLE, SPACE, UNSUPPORTED = range(1, 9)


def scripted(arguments: Sequence[str]) -> list[str]:
    """The same command for a script."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:at], "--json", *arguments[at:]]


def plain(said: Said) -> str:
    """Nothing but sentences."""
    text = said.out + said.err
    assert "Traceback" not in text and "internal.error" not in text, text
    return text


def refused(server: Server, *arguments: str, code: str, exit: int, says: str = "",
            person: bool = True) -> dict[str, Any]:
    """The command ends with ``exit``, tells ``code`` to scripts, and cause and remedy to people.
    Returns the error as scripts get it. Without ``person`` only the script's call is made."""
    script = hotspare(server, *scripted(arguments))
    plain(script)
    assert script.exit == exit, script
    error: dict[str, Any] = script.json["error"]
    assert error["code"] == code, error
    assert error["message"]
    assert catalogue()[code].exit == exit
    assert says in f"{error['message']} {error['remedy']}", error
    if person:
        said = hotspare(server, *arguments)
        text = plain(said)
        assert said.exit == exit, said
        told = " ".join(text.split())
        assert " ".join(error["message"].split()) in told, (error, text)
        assert error["remedy"] in told, (error, text)
    return error


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows both hosts, for all tests that break nothing."""
    lab.a.start()
    lab.b.start()
    server = Server(tmp_path_factory.mktemp("bad")).start()
    for name, host in (("site-a", lab.a), ("site-b", lab.b)):
        added = hotspare(server, "platform", "add", name, host.uri, "--json")
        assert added.exit == 0, added
        assert added.json["state"] == "ok" and added.json["refreshed_at"], added.json
    yield server
    server.stop()


@pytest.fixture
def off(site: Server, guest_factory: Callable[..., Guest]) -> Guest:
    """A machine of site-a that is off, and known there."""
    guest = guest_factory(boot="kernel", network=None, video=False)
    assert hotspare(site, "platform", "refresh", "site-a", "--wait").exit == 0
    return guest


def create(name: str, vm: str, **other: str) -> list[str]:
    options = {"source": "site-a", "vm": vm, "target": "site-b", "storage": "hotspare"} | {
        key.replace("_", "-"): value for key, value in other.items()}
    return ["rule", "create", *(f"--{k}={v}" for k, v in options.items()), "--", name]


# --- platforms ---------------------------------------------------------------------------------


def test_addresses_that_do_not_work(site: Server, lab: Lab, tmp_path: Path) -> None:
    ssh = lab.ssh
    known = f"known_hosts={ssh.known_hosts}"
    wrong_key = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong_key], check=True)
    query = f"socket={lab.a.socket}&proxy=netcat"
    at_ssh = f"qemu+ssh://{ssh.user}@127.0.0.1:{ssh.port}/session?{query}"
    strange = tmp_path / "strange"
    strange.write_text(f"[127.0.0.1]:{ssh.port} " + wrong_key.with_suffix(".pub").read_text())
    cases: list[tuple[list[str], str, int]] = [
        (["qemu+unix:///session?socket=/nowhere/libvirt-sock"], "platform.unreachable",
         UNREACHABLE),
        ([f"qemu+ssh://{ssh.user}@127.0.0.1:1/session?{query}", "--option", known],
         "platform.unreachable", UNREACHABLE),
        ([at_ssh, "--option", known, "--option", f"keyfile={wrong_key}"], "platform.auth", AUTH),
        ([at_ssh, "--option", f"known_hosts={strange}",
          "--option", f"keyfile={ssh.keyfile}"], "ssh.host-key", AUTH),
    ]
    for number, (words, code, exit) in enumerate(cases):
        # it is registered, though it does not work yet: one may start the host and look again
        name = f"bad-{number}"
        first = hotspare(site, "platform", "add", name, *words, "--json")
        assert first.exit == exit, first.out
        assert first.json["error"]["code"] == code, first.json
        with site.client() as client:
            shown = client.platform(name)
            assert (shown["state"], shown["refreshed_at"]) == ("failed", None)
            assert shown["error"] is not None and shown["error"]["remedy"]
            assert shown["checks"][0]["ok"] is False and shown["checks"][0]["code"] == code
            if number:
                client.remove_platform(name)
    person = hotspare(site, "platform", "show", "bad-0")
    assert "Failed to connect socket to '/nowhere/libvirt-sock'" in person.out
    assert "See that it runs, that libvirtd runs there" in person.out
    refused(site, *create("r", "web", source="bad-0"), code="platform.not-refreshed", exit=STATE)
    assert hotspare(site, "platform", "check", "bad-0", "--wait").exit in {0, UNREACHABLE}
    with site.client() as client:
        client.remove_platform("bad-0")
        assert [p["name"] for p in client.platforms()] == ["site-a", "site-b"]


def test_the_message_of_a_failed_check_is_whole(site: Server) -> None:
    with site.client() as client:
        made = client.add_platform("gone", "qemu+unix:///session?socket=/nowhere/sock")
        try:
            for _ in client.follow(made["task"] or 0):
                pass
            error = client.platform("gone")["error"]
            assert error is not None and error["code"] == "platform.unreachable"
            assert "/nowhere/sock" in error["message"], error["message"]
        finally:
            client.remove_platform("gone")


REFUSED_ADDRESSES = (
    "qemu+tcp://host/system", "qemu+tls://host/system", "xen:///system", "", "web01",
    "qemu+ssh:///system", "qemu+ssh://host/etc/passwd", "qemu+ssh://-oProxyCommand=id/system",
    "qemu+ssh://me:secret@host/system", "qemu+ssh://host/system?command=/tmp/x",
    "qemu+ssh://host/system?no_verify=1", "qemu+ssh://host/system?keyfile=/k",
    "qemu+ssh://host:99999/system", "qemu+ssh://h%0aost/system", "qemu+ssh://h\nost/system",
    "q" * 1025)


def test_addresses_that_are_refused(site: Server, lab: Lab) -> None:
    with site.client() as client:
        for uri in REFUSED_ADDRESSES:
            with pytest.raises(HotspareError) as found:
                client.add_platform("bad", uri)
            assert found.value.code in {"platform.address", "input.invalid"}, uri
            assert "secret" not in str(found.value.as_dict())
    error = refused(site, "platform", "add", "bad", "qemu+tcp://host/system",
                    code="platform.address", exit=INPUT, says="qemu+ssh")
    assert "qemu+ssh" in error["message"] + error["remedy"]
    refused(site, "platform", "add", "bad", "hyperv://host/", "--kind", "hyperv",
            code="platform.kind", exit=UNSUPPORTED, says="libvirt")
    refused(site, "platform", "add", "bad", "esx://host/", "--kind", "vsphere",
            code="platform.address", exit=INPUT, says="https")
    refused(site, "platform", "add", "again", lab.a.uri, code="platform.exists", exit=STATE,
            says="site-a")
    refused(site, "platform", "show", "nowhere", code="platform.not-found", exit=MISSING)
    assert len(hotspare(site, "platform", "list", "--json").json) == 2


# --- rules -------------------------------------------------------------------------------------


def test_rules_that_are_refused(site: Server, off: Guest) -> None:
    refused(site, *create("r", "no-such-vm"), code="vm.unknown", exit=MISSING,
            says="platform refresh site-a")
    refused(site, *create("r", off.name, source="nowhere"), code="platform.not-found",
            exit=MISSING, says="platform list", person=False)
    refused(site, *create("r", off.name, storage="no-such-pool"), code="storage.unknown",
            exit=MISSING, says="hotspare")
    refused(site, *create("r", off.name, network="default=no-such-net"),
            code="network.unknown", exit=MISSING, person=False)
    refused(site, "rule", "start", "nothing", code="rule.not-found", exit=MISSING,
            says="rule list", person=False)
    refused(site, "task", "show", "999999", code="task.not-found", exit=MISSING,
            says="task list", person=False)
    # several at once are all told
    error = refused(site, *create("-r", "no-such-vm", storage="no-such-pool"),
                    code="rule.fields", exit=INPUT)
    assert {"name", "vm", "storage"} <= set(error["fields"])

    made = hotspare(site, *scripted(create("first", off.name)))
    assert made.exit == 0, made
    try:
        refused(site, *create("second", off.name), code="rule.duplicate", exit=STATE,
                says="first")
        error = refused(site, *create("FIRST", off.name), code="rule.fields", exit=INPUT,
                        person=False)
        assert "name" in error["fields"]
        refused(site, "failover", "first", code="rule.no-point", exit=STATE,
                says="rule start first")
        refused(site, "undo", "first", code="rule.not-failed-over", exit=STATE, person=False)
        refused(site, "rule", "stop", "first", code="rule.not-running", exit=STATE,
                person=False)
        refused(site, "platform", "remove", "site-a", code="platform.in-use", exit=STATE,
                says="first", person=False)
    finally:
        assert hotspare(site, "rule", "delete", "first", "--wait").exit == 0


AT_THE_COMMAND: list[dict[str, str]] = [
    {"name": ""}, {"name": "../../etc/passwd"}, {"name": "-rf"}, {"retention": "-3"},
    {"retention": "many"}, {"interval": "9s"}, {"interval": "-5m"}, {"interval": "9999999999d"},
    {"bandwidth": "-1"}, {"bandwidth": "9" * 40}, {"network": "default"}, {"quiesce": "maybe"},
]
AT_THE_SERVER: list[dict[str, Any]] = [
    *({at: value} for at in ("name", "replica_name") for value in (
        "", "   ", "x" * 65, "a/b", "../x", "..\\x", "-rf", ".x", "a;reboot", "a\nb", "a\0b",
        "deadbeef", "\u202eabc", "\U0001f4a9", 7, None if at == "name" else [])),
    *({"retention": value} for value in (0, -3, 101, 10**30, "7", 7.5, True)),
    *({"schedule": {"kind": "interval", "every_s": value}}
      for value in (0, 9, -300, 10**15, "15m", 60.5)),
    *({"bandwidth": [{"days": [1], "start": 0, "end": 60, "limit": value}]}
      for value in (-1, 10**40, "1e6", 0.5)),
    {"schedule": {"kind": "weekly", "at": "02:30"}}, {"schedule": {"kind": "yearly"}},
    {"bandwidth": 7}, {"time_zone": "Mars/Olympus"}, {"temp_dir": "relative"},
    {"machine": "nobody"}, {"host": "elsewhere"}, {"rpo_s": 9},
    {"quiesce": "maybe"}, {"networks": {"": "x"}}, {"networks": {"default": "../x"}},
    {"networks": ["x"]}, {"storage": "../hotspare"}, {"storage": ""}, {"vm": ""},
    {"vm": "x" * 300}, {"vm": "../x"}, {"source": "\x7f"}, {"target": "a" * 5000}, {"more": 1},
]


def test_garbage_in_fields(site: Server, off: Guest) -> None:
    """Refused as bad input (or as something that is not there), each with a sentence, and no
    rule is made of it."""
    for case in AT_THE_COMMAND:
        words = {"name": "r", "vm": off.name} | case
        said = hotspare(site, *scripted(create(words.pop("name"), words.pop("vm"), **words)))
        plain(said)
        assert said.exit == INPUT, (case, said)
        if said.out:
            error = said.json["error"]
            assert error["code"] in catalogue() and error["message"], (case, error)
        else:       # refused before it was sent anywhere
            assert "Usage" in said.err, (case, said)
    good = {"name": "r", "vm": off.name, "source": "site-a", "target": "site-b",
            "storage": "hotspare"}
    with site.client() as client:
        for wrong in AT_THE_SERVER:
            with pytest.raises(HotspareError) as found:
                client.create_rule(good | wrong)
            error = found.value.as_dict()
            assert error["code"] in catalogue(), (wrong, error)
            assert catalogue()[error["code"]].exit in {INPUT, MISSING}, (wrong, error)
            assert not PLACEHOLDER.search(error["message"]), (wrong, error)
        assert client.rules() == []
    # other scripts than Latin are no garbage, and are the same name however they were typed
    made = hotspare(site, *scripted(create("Büro 备份", off.name)))
    assert made.exit == 0, made
    shown = hotspare(site, "rule", "show", "BU\u0308RO 备份", "--json")
    assert shown.exit == 0 and shown.json["id"] == made.json["id"], shown
    assert hotspare(site, "rule", "delete", "Büro 备份", "--wait").exit == 0


def test_an_argument_that_is_no_text(site: Server) -> None:
    said = hotspare(site, "rule", "create", "--source=site-a", "--vm=x", "--target=site-b",
                    "--storage=hotspare", "--json", "--", "\udcff")
    plain(said)
    assert said.exit == INPUT, said


def test_a_name_that_is_taken(site: Server, lab: Lab, off: Guest) -> None:
    made = hotspare(site, *scripted(create("taken", off.name)))
    assert made.exit == 0, made
    rule = made.json["id"]
    foreign = lab.b.conn.defineXML(
        f"<domain type='qemu'><name>{off.name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>")
    as_defined = foreign.XMLDesc(0)
    try:
        refused(site, "rule", "start", "taken", "--wait", code="name.taken", exit=STATE,
                says=off.name)
        assert list(lab.b.storage_dir.glob(f"hs-{rule}*")) == [], "nothing is half made"
        assert [d.name() for d in lab.b.conn.listAllDomains()] == [off.name]
        assert foreign.XMLDesc(0) == as_defined and not foreign.isActive()
        # and once it was read, the name is refused before there is a rule
        assert hotspare(site, "platform", "refresh", "site-b", "--wait").exit == 0
        assert hotspare(site, "rule", "delete", "taken", "--wait").exit == 0
        refused(site, *create("taken", off.name), code="rule.replica-name-taken", exit=STATE,
                says="--replica-name")
    finally:
        foreign.undefine()
        assert hotspare(site, "platform", "refresh", "site-b", "--wait").exit == 0


@pytest.fixture
def odd_disk(site: Server, lab: Lab, off: Guest) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Give the machine one disk of a kind; what the platform then says of the machine."""
    image = lab.a.storage_dir / f"{off.name}-odd.raw"
    image.write_bytes(bytes(MIB))
    lab.identity.own(image)

    def give(kind: str) -> dict[str, Any]:
        device = (f"<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
                  f"<source file='{image}'/><target dev='vdz' bus='virtio'/><{kind}/></disk>")
        domain = off.domain()
        if str(image) in domain.XMLDesc(0):
            domain.detachDeviceFlags(f"<disk type='file' device='disk'><source file='{image}'/>"
                                     "<target dev='vdz' bus='virtio'/></disk>",
                                     libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        domain.attachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        with site.client() as client:
            for _ in client.follow(client.refresh_platform("site-a")):
                pass
            return dict(next(v for v in client.vms("site-a") if v["name"] == off.name))

    yield give
    image.unlink()


def test_disks_that_cannot_be_replicated(
        site: Server, off: Guest, odd_disk: Callable[[str], dict[str, Any]]) -> None:
    for kind in ("shareable", "transient"):
        listed = odd_disk(kind)
        assert (listed["protectable"], listed["reason"]) == (False, f"disk.{kind}")
        assert kind in listed["message"]
        error = refused(site, *create("r", off.name), code="vm.unprotectable", exit=UNSUPPORTED,
                        says=kind, person=False)
        assert error["fields"]["cause"] == f"disk.{kind}"
    assert "transient" in hotspare(site, "platform", "vms", "site-a").out
    assert "transient" in hotspare(site, *create("r", off.name)).err


def test_the_refusal_of_a_disk_is_whole(
        site: Server, off: Guest, odd_disk: Callable[[str], dict[str, Any]]) -> None:
    assert "disk vdz is shareable" in odd_disk("shareable")["message"]
    error = refused(site, *create("r", off.name), code="vm.unprotectable", exit=UNSUPPORTED,
                    says="disk vdz is shareable", person=False)
    assert "Remove <shareable/>" in error["message"] + error["remedy"]


# --- space -------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted as root only")
def test_no_space_at_the_target(rig_factory: Callable[..., Rig], lab: Lab,
                                tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(f"replicate.before-publish#*:touch={gate}", boot="kernel", rate=5.0)
    small = lab.b.base / "small-e2e"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0777", "none",
                              small], capture_output=True, text=True, check=False)
    if mounted.returncode:
        small.rmdir()
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    pool = lab.b.conn.storagePoolDefineXML(
        f"<pool type='dir'><name>small-e2e</name><target><path>{small}</path></target></pool>")
    try:
        pool.create()
        _no_space(rig, small, gate)
    finally:
        if rig.server.alive:
            rig.server.stop()
        remove_replicas(lab, [])
        pool.destroy()
        pool.undefine()
        subprocess.run(["umount", small], check=True)
        small.rmdir()


def _no_space(rig: Rig, small: Path, gate: Path) -> None:
    server = rig.server
    for name, host in (("site-a", rig.lab.a), ("site-b", rig.lab.b)):
        assert hotspare(server, "platform", "add", name, host.uri).exit == 0
    made = hotspare(server, *scripted(create(rig.rule, rig.guest.name, storage="small-e2e")))
    assert made.exit == 0, made
    rig.rule_id = made.json["id"]
    rig.storage_dir, rig.storage = small, "small-e2e"

    # too full to begin with: nothing is made
    ballast = small / "ballast"
    ballast.write_bytes(b"x" * (200 * MIB))
    refused(server, "rule", "start", rig.rule, "--wait", code="storage.full", exit=SPACE,
            says="small")
    assert [p.name for p in small.iterdir()] == ["ballast"]
    ballast.unlink()

    first, at_first = gated_run(rig, gate)
    assert rig.points() == {1: at_first}

    # full in the middle: the guest has more new data than there is room
    made_by_first = {p.name for p in small.iterdir()}
    free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
    ballast.write_bytes(b"x" * (free - 10 * MIB))
    done = rig.guest.exec("dd if=/dev/urandom of=/data/filled bs=1M count=24 && sync")
    assert done.rc == 0, done.err
    said = hotspare(server, "rule", "start", rig.rule, "--wait", "--json")
    plain(said)
    assert said.exit == SPACE, said
    assert said.json["error"]["code"] in {"target.no-space", "storage.full"}, said.json
    assert said.json["error"]["remedy"]
    assert {p.name for p in small.iterdir()} == made_by_first | {"ballast"}, "nothing half made"
    assert rig.points() == {1: at_first}
    assert rig.leftovers() == []
    records = rig.guest.journal_count()
    rig.guest.wait_records(records + 1, timeout=20)     # the guest writes on
    shown = hotspare(server, "rule", "show", rig.rule)
    assert said.json["error"]["remedy"] in shown.out

    # with room again the next run works, and sends changes only
    ballast.unlink()
    second, at_second = gated_run(rig, gate)
    assert rig.points() == {1: at_first, 2: at_second}
    assert second["figures"]["bytes_moved"] <= 24 * MIB + first["figures"]["bytes_moved"] / 2
    assert rig.leftovers() == []
    rig.check_images()
