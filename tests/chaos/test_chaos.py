"""See the package's own words."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import pytest

from . import actors, aftermath
from .faults import Faults
from .processes import mark
from .stage import Size, Stage
from .watch import Asker, Reader, Sampler

if TYPE_CHECKING:
    from testbeds.kvm import Lab
    from testbeds.postgres import Postgres

SHORT = Size(rules=8, seconds=40.0, every_s=(10, 20), gap_s=(0.5, 3.0), longest_s=12.0)
FULL = Size(rules=60, seconds=float(os.environ.get("HOTSPARE_CHAOS_SECONDS", "900")),
            every_s=(60, 150), gap_s=(3.0, 9.0), longest_s=60.0)


@pytest.fixture
def seed() -> str:
    found = os.environ.get("HOTSPARE_CHAOS_SEED") or str(SystemRandom().randrange(10**9))
    print(f"HOTSPARE_CHAOS_SEED={found}")
    return found


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    made = mark()
    yield made
    monkeypatch.delenv("HOTSPARE_CHAOS_MARK")


def chaos(stage: Stage, mark: str) -> None:
    """Build, break, rest, look."""
    try:
        stage.build()
        faults, sampler, reader = Faults(stage), Sampler(stage), Reader(stage)
        stage.act("sampler", sampler.turn)
        stage.act("reader", reader.turn)
        for machine in stage.machines.values():
            stage.act(f"asker of {machine.name}", Asker(stage, machine).turn)
        stage.act("writer", actors.writer(stage))
        stage.act("owner", actors.owner(stage))
        stage.act("operator", actors.operator(stage))
        stage.act("starter", actors.starter(stage))
        stage.tell("it begins")
        faults.last(stage.size.seconds)
        stage.end()
        stage.tell(f"it is over: {faults.counts}")
        aftermath.settle(stage)
        stage.tell("all is at rest")
        aftermath.run_all(stage)
        stage.tell("all ran once more")
        aftermath.look(stage, reader, sampler)
        aftermath.nothing_runs(stage, mark)
    except Exception:
        stage.blame(traceback.format_exc())
    finally:
        print("\n".join(stage.story))
        if stage.wrong:
            print(stage.explain())
        stage.close()
    assert not stage.wrong, "\n".join(stage.wrong)


@pytest.mark.timeout(600)
def test_one_process_on_sqlite(lab: Lab, tmp_path: Path, seed: str, marked: str) -> None:
    chaos(Stage(lab, tmp_path, SHORT, seed), marked)


@pytest.mark.timeout(600)
def test_a_fleet_on_postgresql(lab: Lab, tmp_path: Path, seed: str, marked: str,
                               postgres: Postgres, postgres_url: str) -> None:
    chaos(Stage(lab, tmp_path, SHORT, seed, postgres, postgres_url), marked)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_sixty_rules_of_one_process_on_sqlite(lab: Lab, tmp_path: Path, seed: str,
                                              marked: str) -> None:
    chaos(Stage(lab, tmp_path, FULL, seed), marked)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_sixty_rules_of_a_fleet_on_postgresql(lab: Lab, tmp_path: Path, seed: str, marked: str,
                                              postgres: Postgres, postgres_url: str) -> None:
    chaos(Stage(lab, tmp_path, FULL, seed, postgres, postgres_url), marked)
