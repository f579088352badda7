"""The temporary directory of a rule: what is looked at before a run, and what is made there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotspare.domain.errors import GiveUp, OutOfSpace
from hotspare.workflows import run_state, temp_dir
from hotspare.workflows.run_state import RunState

STATE = RunState(rule="0123abcd", task=1, epoch=1, base=None, base_token=None)


def test_it_has_to_be_there_and_is_given_the_rules_folder(tmp_path: Path) -> None:
    temp_dir.prepare(tmp_path, "hs-0", [1 << 30])
    assert (tmp_path / "hs-0").stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.rglob("*")) == [tmp_path / "hs-0"]
    with pytest.raises(GiveUp) as caught:
        temp_dir.prepare(tmp_path / "none", "hs-0", [])
    assert caught.value.code == "temp-dir.missing"
    assert not (tmp_path / "none").exists(), "an unmounted file system is not made up for"


def test_rights(tmp_path: Path) -> None:
    for path in (Path("/proc"), Path("/sys")):      # nobody can write there, root neither
        with pytest.raises(GiveUp) as caught:
            temp_dir.prepare(path, "hs-0", [])
        assert caught.value.code == "temp-dir.rights"
        assert "service runs as" in str(caught.value)


def test_space_for_the_machines_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutOfSpace) as full:
        temp_dir.prepare(tmp_path, "hs-0", [1 << 60])
    assert full.value.code == "temp-dir.full"
    # what an unfinished run of the same rule left there is used again
    size = shutil.disk_usage(tmp_path)
    (tmp_path / "hs-0" / "journal").write_bytes(b"x" * (32 << 20))
    monkeypatch.setattr(temp_dir.shutil, "disk_usage",
                        lambda _path: size._replace(free=0))
    temp_dir.prepare(tmp_path, "hs-0", [1 << 20])
    with pytest.raises(OutOfSpace):
        temp_dir.prepare(tmp_path, "hs-1", [1 << 20])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small file system is mounted as root only")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", path],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_file_system_is_full_and_nothing_else(small: Path) -> None:
    temp_dir.prepare(small, "hs-0", [1 << 20])
    run_state.save(small / "hs-0", STATE)
    ballast = small / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(bytes(4096))
    for folder in ("hs-0", "hs-1"):
        with pytest.raises(OutOfSpace) as caught:
            temp_dir.prepare(small, folder, [1 << 20])
        assert caught.value.code == "temp-dir.full"
    # in the middle of a run: said as what it is, and what was there before stays
    with pytest.raises(OutOfSpace) as caught:
        run_state.save(small / "hs-0", STATE.next_instant(None))
    assert caught.value.code == "machine.no-space"
    assert run_state.load(small / "hs-0") == STATE
    ballast.unlink()
    temp_dir.prepare(small, "hs-1", [1 << 20])


def test_a_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """The undo of a failover, for one, needs no temporary directory."""
    assert run_state.load(tmp_path / "none") is None
    (tmp_path / "run.json").mkdir()
    assert run_state.load(tmp_path) is None
