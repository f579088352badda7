"""kill -9 at any point of a restore or a move leaves the old or the new, database and key alike,
and the same command again succeeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import Refused
from hotspare.server import care, sealed
from hotspare.services import Services
from hotspare.store import Store, schema
from testbeds.postgres import Postgres
from unit.service_rig import ADMIN, rig

PASS = "correct horse battery"

DRIVER = """
import os, signal, sys
from pathlib import Path
from hotspare.server import care, sealed
from hotspare.services import restored
from hotspare.store import dump

def dies(module, name, turn, after):
    real, turns = getattr(module, name), [0]
    def call(*args, **more):
        turns[0] += 1
        if turns[0] == turn and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **more)
        if turns[0] == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(module, name, call)

what, place, state, database, other, passphrase = sys.argv[1:]
sealed._COSTS["n"] = 1 << 10
module, name, turn, after = place.split(":")
modules = {"dump": dump, "restored": restored, "care": care}
dies(modules[module], name, int(turn), after == "after")
if what == "migrate":
    care.migrate(Path(state), database or None, other, True)
else:
    getattr(care, what)(Path(state), database or None, Path(other), passphrase, True)
"""


def killed(what: str, place: str, state: Path, database: str | None, other: str | Path) -> None:
    done = subprocess.run([sys.executable, "-c", DRIVER, what, place, str(state), database or "",
                           str(other), PASS], capture_output=True, text=True, check=False,
                          timeout=60, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sealed._COSTS, "n", 1 << 10)


def filled(folder: Path, name: str, database: str | None = None) -> Path:
    """A server of its own, with its key, a rule and a platform's secret of that name."""
    folder.mkdir(0o700)
    with rig(folder, database=database) as made:
        made.platforms()
        made.run(made.rule(name))
        made.ended(made.services.platforms.add(
            ADMIN, name="secret", kind="libvirt", uri="qemu+ssh://other/system",
            secret=name).task)
    return folder


def content(state: Path, database: str | None) -> str:
    """Name of its rule. Its key fits: the platform's secret says the same."""
    services = Services.open(state, database=database)
    try:
        with services.context.read() as conn:
            secret, ident = conn.execute(sa.select(
                schema.platform.c.secret, schema.platform.c.id).where(
                schema.platform.c.name == "secret")).one()
        [rule] = services.rules.list(ADMIN).items
        assert services.context.keys.decrypt(secret, ident) == rule.name
        return rule.name
    finally:
        services.close()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory, at rest, to be copied."""
    return filled(tmp_path_factory.mktemp("old") / "state", "old")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of another server."""
    folder = tmp_path_factory.mktemp("new")
    other = filled(folder / "state", "new")
    (other / "tls").mkdir()
    for name in ("ca.pem", "ca-key.pem"):
        (other / "tls" / name).write_text(f"of the backup: {name}")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sealed._COSTS, "n", 1 << 10)
        care.backup(other, None, folder / "b", PASS)
    return folder / "b"


@pytest.fixture
def state(old: Path, tmp_path: Path, database: str | None) -> Path:
    if database is not None:
        return filled(tmp_path / "state", "old", database)
    return Path(shutil.copytree(old, tmp_path / "state"))


@pytest.mark.parametrize(("place", "left"), [
    ("dump:_insert:5:after", "old"), ("dump:upgrade:2:after", "old"),
    ("restored:write_private:2:after", "old"),
    ("restored:stage:1:after", "old"),          # all is written, nothing committed
    ("restored:put_files:2:before", "new"),     # committed; the key is not in its place yet
    ("restored:sync:1:before", "new"), ("restored:put_files:2:after", "new")])
def test_a_restore_that_is_killed(state: Path, database: str | None, saved: Path, place: str,
                                  left: str) -> None:
    (state / "tls").mkdir()
    (state / "tls" / "ca.pem").write_text("of before")
    killed("restore", place, state, database, saved)
    assert content(state, database) == left
    assert not list(state.rglob("*.restored"))
    assert (state / "tls" / "ca.pem").read_text() == (
        "of before" if left == "old" else "of the backup: ca.pem")
    care.restore(state, database, saved, PASS, True)
    assert content(state, database) == "new"
    # What was there first is kept, and once only.
    kept = [p.name for p in state.iterdir() if "before-restore" in p.name]
    assert kept == ["secret.key.before-restore"]


def test_a_second_restore_keeps_the_first_key_too(old: Path, tmp_path: Path) -> None:
    state = Path(shutil.copytree(old, tmp_path / "state"))
    keys = [(state / "secret.key").read_bytes()]
    for name in ("first", "second"):
        other = filled(tmp_path / name, name)
        care.backup(other, None, tmp_path / f"b-{name}", PASS)
        care.restore(state, None, tmp_path / f"b-{name}", PASS, True)
        keys.append((other / "secret.key").read_bytes())
    assert content(state, None) == "second"
    assert [(state / f"secret.key{end}").read_bytes() for end in (
        ".before-restore", ".before-restore-2", "")] == keys


@pytest.mark.parametrize("place", ["dump:_insert:5:after", "care:_audit_in:1:after"])
def test_a_move_that_is_killed_has_moved_nothing(old: Path, tmp_path: Path, postgres: Postgres,
                                                 place: str) -> None:
    state, url = Path(shutil.copytree(old, tmp_path / "state")), postgres.create()
    killed("migrate", place, state, None, url)
    with closing(Store(url)) as store:
        assert store.empty()
    assert content(state, None) == "old"
    care.migrate(state, None, url)
    assert content(state, url) == "old"


def test_a_move_that_is_killed_at_its_end_is_made_again(old: Path, tmp_path: Path,
                                                        postgres: Postgres) -> None:
    state, url = Path(shutil.copytree(old, tmp_path / "state")), postgres.create()
    killed("migrate", "restored:mark_moved:1:before", state, None, url)
    assert content(state, url) == "old"
    with pytest.raises(Refused) as caught:
        care.migrate(state, None, url)
    assert caught.value.code == "restore.not-empty"
    care.migrate(state, None, url, True)
    assert content(state, url) == "old"
    with pytest.raises(Refused) as caught:
        Services.open(state)
    assert caught.value.code == "store.moved"


def test_a_backup_that_is_killed_leaves_the_one_before(old: Path, tmp_path: Path) -> None:
    file = tmp_path / "b"
    care.backup(old, None, file, PASS)
    before = file.read_bytes()
    for place in ("care:_write:1:after", "care:_verified:1:after"):
        killed("backup", place, old, None, file)
        assert file.read_bytes() == before
    care.backup(old, None, file, PASS, True)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    care.restore(tmp_path / "fresh", None, file, PASS)
    assert content(tmp_path / "fresh", None) == "old"
