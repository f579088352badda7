"""The application, over services that somebody else opened."""

from __future__ import annotations

from fastapi import FastAPI

from .. import __version__
from ..services import Services
from . import errors
from .guard import Guard
from .language import InLanguage
from .routes import (
    channels,
    fleet,
    groups,
    link,
    platforms,
    rules,
    schedules,
    settings,
    statistics,
    tasks,
    users,
)

PREFIX = "/api/v1"


def create_app(services: Services, ca_pem: str | None = None) -> FastAPI:
    """``ca_pem`` is what ``GET /api/v1/ca`` answers. No page is served that loads anything from
    elsewhere: the description is at ``/api/v1/openapi.json``."""
    app = FastAPI(title="Hotspare", version=__version__, docs_url=None, redoc_url=None,
                  openapi_url=f"{PREFIX}/openapi.json")
    app.state.services = services
    app.state.ca_pem = ca_pem
    errors.install(app)
    # the link first: routes are tried in order, and two hundred machines poll
    for module in (link, users, platforms, rules, groups, tasks, settings, fleet, schedules,
                   channels):
        app.include_router(module.router, prefix=PREFIX, responses=errors.RESPONSES)
    app.include_router(statistics.router, prefix=PREFIX, responses=errors.RESPONSES)
    app.include_router(statistics.scrape)
    app.add_middleware(Guard)
    app.add_middleware(InLanguage)      # around the guard: what it refuses is told, too
    return app
