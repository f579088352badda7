"""A control database that is lost, or brought back too old, costs no restore point."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .rig import Rig, Server, hotspare, wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Lab

PASSPHRASE = {"HOTSPARE_BACKUP_PASSPHRASE": "correct horse battery"}


@pytest.fixture(autouse=True)
def empty_storage(lab: Lab) -> None:
    """A rebuild reads all replicas of a target: what other tests left there is not of this one."""
    lab.b.start()
    for path in lab.b.storage_dir.glob("hs-*"):
        path.unlink()


def registered(rig: Rig) -> None:
    """Both hosts again, in a database that knows nothing."""
    with rig.server.client() as client:
        for name, host in (("site-a", rig.lab.a), ("site-b", rig.lab.b)):
            client.add_platform(name, host.uri)
        wait_for(lambda: all(p["refreshed_at"] for p in client.platforms()), 60,
                 "both platforms are read")


def forget_database(rig: Rig) -> None:
    for path in rig.server.state_dir.glob("hotspare.db*"):
        path.unlink()


def log_of(rig: Rig) -> list[str]:
    with rig.server.client() as client:
        return [line["code"] for line in client.rule_log(rig.rule)]


def boots(rig: Rig, point: int) -> None:
    """Fail over to the point, look whether the guest's own check of its data is good, undo."""
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, point))
    verified = rig.lab.guest(rig.lab.b, rig.guest.name).wait_ready()
    assert not verified.bad and verified.records > 0
    with rig.server.client() as client:
        rig.ended(client.undo(rig.rule))


@pytest.mark.timeout(600)
def test_a_lost_database_is_rebuilt_and_the_next_run_is_incremental(
        rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(rate=20.0)
    rig.protect()
    for _ in range(3):
        last = rig.run()
    expected = rig.points()
    assert list(expected) == [1, 2, 3]
    rig.server.kill()
    forget_database(rig)
    rig.server.start()

    registered(rig)
    said = hotspare(rig.server, "admin", "rebuild", "site-b", "--json")
    assert said.exit == 0, said.err
    with rig.server.client() as client:
        [rule] = client.rules()
    assert rule["id"] == rig.rule_id
    assert (rule["state"], rule["points"], rule["source_name"]) == ("stopped", 3, "site-a")
    rig.rule = rule["name"]
    assert rig.points() == expected

    task = rig.run()
    assert task["id"] > last["id"] + 1000, "no number of a task is given twice"
    assert task["figures"]["full"] is False
    assert task["figures"]["bytes_moved"] < 64 << 20, "the run must be incremental"
    found = rig.points()
    assert {n: found[n] for n in expected} == expected
    assert list(found) == [1, 2, 3, 4]
    assert rig.leftovers() == []
    boots(rig, 2)
    assert rig.points() == found


@pytest.mark.timeout(600)
def test_a_failover_outlives_the_database(rig_factory: Callable[..., Rig]) -> None:
    """Source and database are lost, the replica runs: it is found, and its undo works."""
    rig = rig_factory(rate=20.0)
    rig.protect()
    rig.run()
    rig.run()
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, 1))
    rig.server.kill()
    forget_database(rig)
    rig.server.start()
    with rig.server.client() as client:
        client.add_platform("site-b", rig.lab.b.uri)
        wait_for(lambda: all(p["refreshed_at"] for p in client.platforms()), 60, "it is read")
        rig.ended(client.rebuild("site-b"))
        [rule] = client.rules()
        assert (rule["state"], rule["failover_point"]) == ("temporary-failover", 1)
        assert rule["source_name"] == "unknown source"
        rig.rule = rule["name"]
        rig.ended(client.undo(rig.rule))
        # The source is back, and gets known.
        client.add_platform("site-a", rig.lab.a.uri)
        wait_for(lambda: client.platform("site-a")["refreshed_at"], 60, "the source is read")
        rig.ended(client.rebuild("site-b"))
        assert client.rule(rig.rule)["source_name"] == "site-a"
    assert rig.run()["figures"]["full"] is False
    assert rig.numbers() == [1, 2, 3]
    assert rig.leftovers() == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", [
    pytest.param("step.transfer.begin", marks=pytest.mark.soak), "replicate.after-publish"])
def test_a_database_that_is_lost_in_a_run(rig_factory: Callable[..., Rig], where: str) -> None:
    """Killed in the middle, before or after the point is there: the DR machine still knows the
    run, the new database does not. Nothing hangs, nothing is lost, nothing is left behind."""
    rig = rig_factory(rate=20.0)
    rig.protect()
    rig.run()
    rig.server.stop()
    rig.server.start(fault=f"{where}:kill")
    with rig.server.client() as client:
        client.start_rule(rig.rule)
    rig.server.wait_dead(60)
    forget_database(rig)
    rig.server.start()
    registered(rig)
    said = hotspare(rig.server, "admin", "rebuild", "site-b")
    assert said.exit == 0, said.err
    published = [1, 2] if where.endswith("after-publish") else [1]
    with rig.server.client() as client:
        [rule] = client.rules()
    assert (rule["id"], rule["points"]) == (rig.rule_id, len(published))
    rig.rule = rule["name"]
    assert rig.run()["figures"]["full"] is False
    assert rig.numbers() == [*published, published[-1] + 1]
    assert rig.leftovers() == []
    boots(rig, published[-1] + 1)


@pytest.mark.timeout(600)
def test_a_restore_finds_the_failover_before_the_schedule_runs(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    """The backup says that the rule is idle and long due; its replica runs by now."""
    rig = rig_factory(rate=20.0)
    rig.protect(schedule={"kind": "interval", "every_s": 10})
    rig.run()
    backup = str(tmp_path / "backup")
    assert hotspare(rig.server, "admin", "backup", backup, **PASSPHRASE).exit == 0
    with rig.server.client() as client:
        client.stop_rule(rig.rule)
        rig.settled()
        known = max(rig.numbers())
        rig.ended(client.failover(rig.rule, known))
    rig.server.stop()
    done = hotspare(rig.server, "admin", "restore", backup, "--force", **PASSPHRASE)
    assert done.exit == 0, done.err
    rig.server.start()
    with rig.server.client() as client:
        wait_for(lambda: client.rule(rig.rule)["state"] == "temporary-failover", 60,
                 "the failover is found")
        assert client.rule(rig.rule)["failover_point"] == known
        rig.ended(client.undo(rig.rule))
    assert max(rig.numbers()) == known, "nothing ran meanwhile"


@pytest.mark.timeout(600)
def test_an_older_database_adopts_newer_points_and_deletes_none(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    rig = rig_factory(rate=20.0)
    rig.protect(retention=10)
    rig.run()
    backup = str(tmp_path / "backup")
    assert hotspare(rig.server, "admin", "backup", backup, **PASSPHRASE).exit == 0
    for _ in range(3):
        rig.run()
    expected = rig.points()
    assert list(expected) == [1, 2, 3, 4]
    refused = hotspare(rig.server, "admin", "restore", backup, "--force", **PASSPHRASE)
    assert refused.exit != 0, "a server that runs has the lock"
    rig.server.stop()
    refused = hotspare(rig.server, "admin", "restore", backup, **PASSPHRASE)
    assert refused.exit == 4 and "--force" in refused.err
    done = hotspare(rig.server, "admin", "restore", backup, "--force", **PASSPHRASE)
    assert done.exit == 0, done.err

    rig.server.start()          # reads the targets by itself
    wait_for(lambda: rig.numbers() == [1, 2, 3, 4], 60, "the newer points are adopted")
    assert "rebuild.adopted" in log_of(rig)
    assert rig.points() == expected
    task = rig.run()
    assert task["figures"]["full"] is False
    assert task["figures"]["bytes_moved"] < 64 << 20
    found = rig.points()
    assert {n: found[n] for n in expected} == expected
    assert rig.numbers() == [1, 2, 3, 4, 5]
    assert rig.leftovers() == []
    boots(rig, 4)


@pytest.mark.timeout(600)
def test_with_another_key_nothing_is_taken_over_and_nothing_harmed(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    rig = rig_factory(rate=5.0)
    rig.protect()
    rig.run()
    expected = rig.points()
    rig.server.stop()
    key = rig.server.state_dir / "secret.key"
    kept = key.read_bytes()
    forget_database(rig)
    key.unlink()
    for left in (rig.server.state_dir / "machine").glob("*"):
        left.unlink() if left.is_file() else shutil.rmtree(left)
    rig.server.start()
    registered(rig)
    said = hotspare(rig.server, "admin", "rebuild", "site-b")
    assert said.exit != 0
    assert "secret.key" in said.err + said.out
    with rig.server.client() as client:
        assert client.rules() == []
    rig.server.stop()
    key.write_bytes(kept)
    forget_database(rig)
    rig.server.start()
    assert rig.points() == expected
    restored(rig.server, rig)


def restored(server: Server, rig: Rig) -> None:
    registered(rig)
    done: Any = hotspare(server, "admin", "rebuild", "site-b")
    assert done.exit == 0, done.err
    with server.client() as client:
        assert [r["points"] for r in client.rules()] == [1]
