from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nbdservers import Servers


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where possible: these tests sync a lot, and what a sync proves is shown by
    recorded requests and system calls, not by the disk."""
    where = "/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"
    directory = Path(tempfile.mkdtemp(prefix="hs-dp-", dir=where))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def servers() -> Iterator[Servers]:
    # a short path: names of unix sockets end at 108 bytes
    directory = Path(tempfile.mkdtemp(prefix="hs-dp-", dir="/tmp"))
    running = Servers(directory)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(directory, ignore_errors=True)
