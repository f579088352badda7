"""The same world over each database, one for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.world import World, world
from testbeds.postgres import Postgres


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def everything(request: pytest.FixtureRequest,
               tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        with world(folder) as made:
            yield made
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    postgres.start()
    url = postgres.lend()
    with world(folder, url) as made:
        yield made
    postgres.give_back(url)
