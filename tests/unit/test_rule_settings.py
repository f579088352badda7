"""All settings of a rule: what is stored, what is refused and at which field."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.bandwidth import Range
from hotspare.domain.errors import HotspareError
from hotspare.domain.schedule import Schedule
from hotspare.platforms.libvirt.source import MIN_INTERVAL_S
from hotspare.platforms.libvirt.target import LibvirtTarget
from hotspare.services import NewRule, Services, rule_settings
from hotspare.services.kinds import KINDS
from hotspare.services.rule_settings import retention_covers_s
from hotspare.store import Store, schema
from hotspare.store.engine import sqlite_url
from hotspare.store.migrate import upgrade
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, prepared, rig, wait_until

PLACES: list[dict[str, Any]] = [
    {"kind": "datacenter", "name": "east", "parent": ""},
    {"kind": "datacenter", "name": "west", "parent": ""},
    {"kind": "host", "name": "e1", "parent": "east"},
    {"kind": "host", "name": "e2", "parent": "east"},
    {"kind": "host", "name": "w1", "parent": "west"},
    {"kind": "storage", "name": "fast", "parent": "e1"},
    {"kind": "storage", "name": "shared", "parent": "east"},
    {"kind": "storage", "name": "slow", "parent": "w1"},
    {"kind": "network", "name": "lan", "parent": "east"}]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("template"))


@pytest.fixture
def here(tmp_path: Path, template: Path) -> Iterator[Rig]:
    shutil.copytree(template, tmp_path / "state")
    with rig(tmp_path / "state") as made:
        yield made


@pytest.fixture
def both(tmp_path: Path, database: str | None) -> Iterator[tuple[Rig, str | None]]:
    """On each kind of database, and its address."""
    with rig(tmp_path, database=database) as made:
        made.platforms()
        yield made, database


def platform(here: Rig, name: str, **values: Any) -> None:
    """What only another kind of platform would report."""
    p = schema.platform
    if "places" in values:
        values["places"] = [{"usable": True, "reason": ""} | place for place in values["places"]]
    with here.services.context.change() as change:
        change.conn.execute(sa.update(p).where(p.c.name == name).values(**values))


def code(here: Rig, **settings: Any) -> tuple[str, str]:
    """Code and field of the one fault."""
    with pytest.raises(HotspareError) as caught:
        here.rule(**settings)
    return caught.value.code, str(caught.value.fields["field"])


def test_every_setting_is_kept_and_shown(here: Rig) -> None:
    settings: dict[str, Any] = {
        "networks": {"default": "lan"}, "replica_name": "spare", "machine": "local",
        "temp_dir": "/var/tmp", "retention": 24, "quiesce": "require", "fast_transfer": False,
        "lan_free": False, "delete_replica": True, "time_zone": "Europe/Berlin", "rpo_s": 7200,
        "bandwidth": (Range((1, 2), 540, 1080, 1 << 20), Range((6, 7), 0, 1440, 0)),
        "schedule": Schedule("interval", 3600)}
    view = here.services.rules.get(VIEWER, here.rule(**settings))
    for name, value in settings.items():
        shown = getattr(view, name)
        assert (tuple(shown) if name == "bandwidth" else shown) == value, name
    assert view.retention_covers_s == 24 * 3600
    assert (view.revision, view.datacenter, view.host, view.group) == (1, "", "", None)
    here.run("r1")
    task = here.player.begun[-1]
    assert task.rule is not None
    assert (task.rule.temp_dir, task.rule.fast_transfer, task.rule.quiesce) == (
        "/var/tmp", False, "require")


@pytest.mark.parametrize(("settings", "fault"), [
    ({"temp_dir": "relative"}, ("rule.temp-dir", "temp_dir")),
    ({"temp_dir": "/a/../b"}, ("rule.temp-dir", "temp_dir")),
    ({"temp_dir": "/"}, ("rule.temp-dir", "temp_dir")),
    ({"machine": "nobody"}, ("machine.not-found", "machine")),
    ({"datacenter": "mars"}, ("place.unknown", "datacenter")),
    ({"folder": "mars"}, ("place.unknown", "folder")),
    ({"pool": "mars"}, ("place.unknown", "pool")),
    ({"host": "nowhere"}, ("place.unknown", "host")),
    ({"networks": {"a": "zzz"}}, ("network.unknown", "networks")),
    ({"lan_free": True}, ("rule.lan-free-kvm", "lan_free")),
    ({"time_zone": "Mars/Olympus"}, ("schedule.zone", "time_zone")),
    ({"schedule": Schedule("interval", 9)}, ("schedule.interval", "schedule")),
    ({"schedule": Schedule("weekly", at="02:00")}, ("schedule.weekdays", "schedule")),
    ({"schedule": Schedule("daily", at="02:00"), "rpo_s": 3600},
     ("rule.rpo-too-small", "rpo_s")),
    ({"rpo_s": 9}, ("input.range", "rpo_s")),
    ({"retention": 101}, ("input.range", "retention")),
    ({"bandwidth": (Range((1,), 0, 60, 1), Range((1,), 30, 90, 1))},
     ("bandwidth.overlap", "bandwidth")),
    ({"group": "none"}, ("group.not-found", "group")),
])
def test_each_fault_is_told_at_its_field(here: Rig, settings: dict[str, Any],
                                         fault: tuple[str, str]) -> None:
    assert code(here, **settings) == fault
    assert here.services.rules.list(VIEWER).items == []


def test_the_dr_machine_has_to_answer(here: Rig) -> None:
    here.services.link("second", here.folder / "second")
    assert here.services.rules.get(VIEWER, here.rule(machine="second")).machine == "second"
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.machine).values(live=False))
    assert code(here, name="r2", vm="web1", machine="second") == ("machine.not-live", "machine")


def test_an_id_is_not_given_twice(here: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10,000 rules two would have the same once in a hundred times."""
    drawn = iter(["00000001", "00000001", "00000002"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(drawn))
    made = [here.services.rules.create(OPERATOR, NewRule(f"r{n}", "src", f"web{n}", "dst",
                                                         "default")).id for n in range(2)]
    assert made == ["00000001", "00000002"]


def test_a_place_is_chosen_from_the_targets_inventory(here: Rig) -> None:
    platform(here, "dst", places=PLACES)

    def make(name: str, vm: str, **where: Any) -> Any:
        new = NewRule(name, "src", vm, "dst", **where)
        return here.services.rules.create(OPERATOR, new)

    with pytest.raises(HotspareError) as caught:
        make("r", "web0", storage="shared")
    assert caught.value.code == "rule.fields"
    assert {"datacenter", "host"} <= set(caught.value.fields)
    for where, fault in (
            ({"datacenter": "east", "host": "w1", "storage": "shared"}, "place.unknown"),
            ({"datacenter": "east", "storage": "shared"}, "place.which"),
            ({"datacenter": "east", "host": "e2", "storage": "fast"}, "storage.unknown"),
            ({"datacenter": "west", "host": "w1", "storage": "shared"}, "storage.unknown")):
        with pytest.raises(HotspareError) as caught:
            make("r", "web0", **where)
        assert caught.value.code == fault, where
    view = make("a", "web0", datacenter="east", host="e2", storage="shared")
    assert (view.datacenter, view.host, view.storage) == ("east", "e2", "shared")
    # the only host of its datacenter: its name is not kept, so it may change
    view = make("b", "web1", datacenter="west", host="w1", storage="slow")
    assert (view.datacenter, view.host) == ("west", "")
    here.run("a")
    task = here.player.begun[-1]
    assert task.rule is not None
    assert (task.rule.datacenter, task.rule.host) == ("east", "e2")


def test_where_there_is_one_place_it_need_not_be_named(here: Rig) -> None:
    platform(here, "dst", places=PLACES)
    new = NewRule("r", "src", "web0", "dst", "slow", datacenter="west")
    assert here.services.rules.create(OPERATOR, new).storage == "slow"
    # it is stored without the host's name, and can be edited like that
    here.services.rules.edit(OPERATOR, "r", {"replica_name": "spare"})
    with pytest.raises(HotspareError) as caught:
        here.services.rules.edit(OPERATOR, "r", {"storage": "fast"})
    assert (caught.value.code, caught.value.fields["known"]) == ("storage.unknown", "slow")
    with pytest.raises(HotspareError) as caught:            # of the other datacenter
        here.services.rules.edit(OPERATOR, "r", {"networks": {"a": "lan"}})
    assert (caught.value.code, caught.value.fields["field"]) == ("network.unknown", "networks")


def test_a_place_that_cannot_be_used_is_refused_with_its_reason(here: Rig) -> None:
    platform(here, "dst", places=[
        {"kind": "storage", "name": "old", "usable": False, "reason": "storage.inactive",
         "fields": {"storage": "old"}},
        {"kind": "storage", "name": "default"},
        {"kind": "network", "name": "lan", "usable": False, "reason": "network.inactive",
         "fields": {"network": "lan"}}])
    for settings, fault, why, remedy in (
            ({"storage": "old"}, "storage.unusable", "pool old is not active", "pool-start old"),
            ({"networks": {"default": "lan"}}, "network.unusable", "network lan is not active",
             "net-start lan")):
        with pytest.raises(HotspareError) as caught:
            here.services.rules.create(OPERATOR, NewRule(
                "r", "src", "web0", "dst", **({"storage": "default"} | settings)))
        told = caught.value.as_dict()
        assert told["code"] == fault
        assert why in told["message"] and remedy in told["remedy"]
    shown = {p["name"]: p["message"]
             for p in here.services.platforms.get(VIEWER, "dst").places}
    assert shown == {"old": "The storage pool old is not active.", "default": "",
                     "lan": "The network lan is not active."}


def test_a_replicas_name_is_taken_through_every_registration_of_its_host(here: Rig) -> None:
    """Two replicas of one name on one host: the second could not run when it is needed."""
    here.rule("first", replica_name="spare")
    made = here.services.platforms.add(ADMIN, name="dst2", kind="libvirt",
                                       uri="qemu+ssh://root@target/system")
    here.ended(made.task)
    wait_until(lambda: here.services.platforms.get(VIEWER, "dst2").refreshed_at)
    platform(here, "dst2", host_id="qemu+ssh://target/system")
    with pytest.raises(HotspareError) as caught:
        here.services.rules.create(OPERATOR, NewRule("r", "src", "web1", "dst2", "default",
                                                     replica_name="spare"))
    assert (caught.value.code, caught.value.fields["by"]) == ("rule.replica-name-taken", "first")


def test_a_platform_says_what_its_rules_can_be(here: Rig) -> None:
    """For the form: before anything is refused."""
    can = here.services.platforms.get(VIEWER, "src").capabilities
    assert (can.points, can.max_points, can.smallest_interval_s) == (7, 100, 10)
    assert can.lan_free is not None and "QEMU" in can.lan_free["message"]
    platform(here, "src", kind="vsphere")
    can = here.services.platforms.get(VIEWER, "src").capabilities
    assert (can.points, can.max_points, can.lan_free) == (3, 28, None)
    assert KINDS["libvirt"].smallest_interval_s == MIN_INTERVAL_S


def test_retention_is_the_target_platforms(here: Rig) -> None:
    assert KINDS["libvirt"].max_points == LibvirtTarget.capabilities.max_points
    assert here.services.rules.get(VIEWER, here.rule()).retention == 7
    assert code(here, name="r3", vm="web2", retention=101) == ("input.range", "retention")
    here.rule("r3", "web2", retention=100)
    platform(here, "dst", kind="vsphere")
    assert code(here, name="r2", vm="web1") == ("rule.kinds", "target")
    platform(here, "src", kind="vsphere")
    assert code(here, name="r2", vm="web1", retention=29) == ("input.range", "retention")
    assert here.services.rules.get(VIEWER, here.rule("r2", "web1")).retention == 3


@pytest.mark.parametrize(("schedule", "covers"), [
    (None, None), (Schedule("interval", 900), 6300), (Schedule("daily", at="01:00"), 7 * 86400),
    (Schedule("weekly", at="01:00", weekdays=(1, 4)), 3.5 * 7 * 86400),
    (Schedule("monthly", at="01:00", day=31), 7 * 365.2425 / 12 * 86400)])
def test_how_much_time_the_points_cover(schedule: Schedule | None, covers: float | None) -> None:
    assert retention_covers_s(7, schedule) == (covers and pytest.approx(covers))


# --- one rule a machine --------------------------------------------------------------------------


def again(here: Rig) -> None:
    """The source registered once more, under another address that is the same host."""
    made = here.services.platforms.add(ADMIN, name="again", kind="libvirt",
                                       uri="qemu+ssh://root@source/system")
    here.ended(made.task)
    wait_until(lambda: here.services.platforms.get(VIEWER, "again").refreshed_at)
    platform(here, "again", host_id="qemu+ssh://source/system")


def test_the_mark_is_shown_through_every_registration(here: Rig) -> None:
    here.rule("first")
    again(here)
    for name in ("src", "again"):
        vms = {v.name: v for v in here.services.platforms.vms(VIEWER, name).items}
        assert (vms["web0"].rule, vms["web0"].message) == (
            "first", "(replicated) by the rule first")
        assert (vms["web1"].rule, vms["web1"].message) == (None, "")


def test_two_processes_make_one_rule_through_two_registrations(
        both: tuple[Rig, str | None]) -> None:
    """Two operators at two servers on one database, each through another registration."""
    here, database = both
    again(here)
    other = Services.open(here.folder, database=database)
    try:
        for turn in range(5):
            results: list[str] = []
            gate = threading.Barrier(2)

            def make(services: Services, source: str, turn: int = turn,
                     gate: threading.Barrier = gate, results: list[str] = results) -> None:
                gate.wait()
                try:
                    services.rules.create(OPERATOR, NewRule(
                        f"{source}-{turn}", source, f"web{turn % 3}", "dst", "default"))
                    results.append("made")
                except HotspareError as error:
                    results.append(error.code)

            threads = [threading.Thread(target=make, args=args)
                       for args in ((here.services, "src"), (other, "again"))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(results) == ["made", "rule.duplicate"]
            [rule] = here.services.rules.list(VIEWER).items
            here.ended(here.services.rules.delete(OPERATOR, rule.id, False))
    finally:
        other.close()


def test_the_database_holds_it_whoever_writes(both: tuple[Rig, str | None]) -> None:
    here, _ = both
    rule = here.rule()
    again(here)
    ident = here.services.platforms.get(VIEWER, "again").id
    r = schema.rule
    with pytest.raises(sa.exc.IntegrityError), here.services.context.change() as change:
        row = change.conn.execute(sa.select(r).where(r.c.id == rule)).one()._asdict()
        change.conn.execute(sa.insert(r).values(
            **(row | {"id": "ffffffff", "name_key": "other", "source": ident})))


def test_the_databases_refusal_names_the_rule(both: tuple[Rig, str | None],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was seen before the write: the check reads what was committed then."""
    here, _ = both
    here.rule("first")
    here.rule("second", "web1")
    again(here)
    monkeypatch.setattr(rule_settings, "_unprotected", lambda *_: None)
    monkeypatch.setattr(rule_settings, "_name_free", lambda *_: None)
    for source in ("src", "again"):
        with pytest.raises(HotspareError) as caught:
            here.services.rules.create(OPERATOR, NewRule("x", source, "web0", "dst", "default",
                                                         replica_name="free"))
        assert caught.value.code == "rule.duplicate"
        assert caught.value.fields == {"vm": "web0", "platform": source, "rule": "first"}
    with pytest.raises(HotspareError) as caught:
        here.services.rules.edit(OPERATOR, "second", {"vm": "web0", "replica_name": "free"})
    assert (caught.value.code, caught.value.fields["rule"]) == ("rule.duplicate", "first")
    for ask in (lambda: here.rule("FIRST", "web2"),
                lambda: here.services.rules.edit(OPERATOR, "second", {"name": "First"})):
        with pytest.raises(HotspareError) as caught:
            ask()
        assert caught.value.code == "rule.exists"
    assert sorted(r.name for r in here.services.rules.list(VIEWER).items) == ["first", "second"]


def test_a_host_whose_identity_is_learned_late_keys_its_rules(here: Rig) -> None:
    """Until a check has said which host it is, a registration stands for itself."""
    platform(here, "src", host_id="")
    rule = here.rule()
    here.ended(here.services.platforms.check(OPERATOR, "src"))
    again(here)
    with pytest.raises(HotspareError) as caught:
        here.services.rules.create(OPERATOR, NewRule("r2", "again", "web0", "dst", "default"))
    assert (caught.value.code, caught.value.fields["rule"]) == ("rule.duplicate", "r1")
    with here.services.context.read() as conn:
        key = conn.execute(sa.select(schema.rule.c.vm_key).where(schema.rule.c.id == rule))
        assert key.scalar_one() == "qemu+ssh://source/system/uuid-0"


def test_an_older_database_gets_its_keys(tmp_path: Path) -> None:
    """Two rules of one host, made before its identity was known, do not stop the upgrade."""
    store = Store(sqlite_url(tmp_path / "old.db"))
    rule = ("INSERT INTO rule VALUES (:i, :i, :i, :source, :vm, 'x', 'c', 's', 'x', '{}', 'm', 7,"
            " 'try', :limit, :every, 0, NULL, 1, 'idle', 'idle', NULL, NULL, NULL, NULL, NULL,"
            " NULL, NULL, :at, 'o', :gone)")
    with store.write() as conn:
        upgrade(conn, "0001")
        conn.exec_driver_sql("INSERT INTO machine VALUES ('m', 1, NULL, 4, '/t', '1', 0)")
        for name, host in (("a", "H"), ("b", "H"), ("c", "")):
            conn.execute(sa.text(
                "INSERT INTO platform VALUES (:n, :n, :n, 'libvirt', :n, '{}', NULL, 'm', 'ok',"
                " '', :h, '[]', '[]', NULL, NULL, NULL, 0, NULL)"), {"n": name, "h": host})
        for at, (source, vm, every, limit, gone) in enumerate((
                ("a", "v1", 900, None, None), ("b", "v1", None, 0, None),
                ("c", "v1", None, 7, None), ("a", "v2", 60, None, 5), ("a", "v2", 60, None, None))):
            conn.execute(sa.text(rule), {"i": f"r{at}", "source": source, "vm": vm, "at": at,
                                         "every": every, "limit": limit, "gone": gone})
    store.migrate()
    with store.read() as conn:
        rows = {r.id: r for r in conn.execute(sa.select(schema.rule))}
    assert [rows[f"r{i}"].vm_key for i in range(5)] == ["H/v1", "b/v1", "c/v1", "a/v2", "H/v2"]
    assert rows["r0"].schedule == {"kind": "interval", "every_s": 900}
    assert [r.bandwidth and r.bandwidth[0]["limit"] for r in rows.values()] == [[], 0, 7, [], []]
    store.close()


# --- the list ------------------------------------------------------------------------------------


def test_the_list_is_filtered_and_sorted(both: tuple[Rig, str | None]) -> None:
    here, _ = both
    here.services.link("second", here.folder / "second")
    here.rule("b", "web0", interval_s=3600)
    here.rule("A", "web1", machine="second")
    here.rule("c_d", "web2")
    here.run("b")

    def names(**wanted: Any) -> list[str]:
        return [r.name for r in here.services.rules.list(VIEWER, **wanted).items]

    assert names() == ["A", "b", "c_d"]
    assert names(sort="-name") == ["c_d", "b", "A"]
    assert names(sort="next_run")[0] == names(sort="-next_run")[0] == "b"
    assert names(sort="-vm") == ["c_d", "A", "b"]
    assert names(state="idle") == ["b"]
    assert names(machine="second") == ["A"]
    assert names(source="src", target="dst") == ["A", "b", "c_d"]
    assert names(source="dst") == []
    assert (names(text="WEB1"), names(text="_"), names(text="zz")) == (["A"], ["c_d"], [])


def test_deletion_follows_the_rules_setting(here: Rig) -> None:
    here.rule("kept", "web0")
    here.rule("gone", "web1", delete_replica=True)
    for name, said, wanted in (("kept", None, False), ("gone", None, True)):
        here.ended(here.services.rules.delete(OPERATOR, name, said))
        assert here.player.begun[-1].arguments["delete_replica"] is wanted
    here.rule("gone", "web1", delete_replica=True)
    here.ended(here.services.rules.delete(OPERATOR, "gone", False))
    assert here.player.begun[-1].arguments["delete_replica"] is False


def test_a_replica_that_became_the_machine_is_never_deleted(here: Rig) -> None:
    """After a permanent failover the setting, and who asks for it, are ignored."""
    rule = here.rule(delete_replica=True)
    here.run(rule)
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.rule).values(
            own_state="permanent-failover", state="permanent-failover"))
    assert here.services.rules.get(VIEWER, rule).operations == ["delete", "log"]
    here.ended(here.services.rules.delete(OPERATOR, rule, True))
    assert here.player.begun[-1].arguments["delete_replica"] is False
