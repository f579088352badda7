"""Which database the services of a test stand on."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """For :func:`unit.service_rig.rig`: None for SQLite in the state directory, or the address
    of a PostgreSQL database of the test's own. A test that asks for it runs on both."""
    url: str | None = (request.getfixturevalue("postgres_url")
                       if request.param == "postgresql" else None)
    return url
