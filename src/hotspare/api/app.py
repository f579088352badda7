"""The application, over services that somebody else opened."""

from __future__ import annotations

from fastapi import Depends, FastAPI

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
    proofs,
    rules,
    schedules,
    settings,
    statistics,
    tasks,
    tests,
    users,
)
from .session import BEARER, actor_of
from .strict import only_described

PREFIX = "/api/v1"
DESCRIPTION = """Errors have one shape, `ErrorAnswer`, in the language of `Accept-Language` (`en`,
`zh-CN`). A field or parameter that is not described here is refused.

Not described: `/metrics`, for Prometheus, and `/api/v1/link/…`, which DR machines of this version
and the one before speak to their server with tokens of their own."""


def create_app(services: Services, ca_pem: str | None = None) -> FastAPI:
    """``ca_pem`` is what ``GET /api/v1/ca`` answers. No page is served that loads anything from
    elsewhere: the description is at ``/api/v1/openapi.json``."""
    app = FastAPI(title="Hotspare", version=__version__, description=DESCRIPTION, docs_url=None,
                  redoc_url=None, openapi_url=f"{PREFIX}/openapi.json", redirect_slashes=False)
    app.state.services = services
    app.state.ca_pem = ca_pem
    errors.install(app)
    # the link first: routes are tried in order, and two hundred machines poll
    app.include_router(link.router, prefix=PREFIX)
    app.include_router(users.public, prefix=PREFIX, dependencies=[Depends(only_described)],
                       responses=errors.ALWAYS)
    with_token = [Depends(BEARER), Depends(actor_of), Depends(only_described)]
    for module in (users, platforms, rules, groups, tests, tasks, settings, fleet, schedules,
                   channels, statistics, proofs):
        app.include_router(module.router, prefix=PREFIX, dependencies=with_token,
                           responses=errors.ALWAYS | errors.WITH_TOKEN)
    app.include_router(statistics.scrape, dependencies=with_token)
    app.add_middleware(Guard)
    app.add_middleware(InLanguage)      # around the guard: what it refuses is told, too
    return app
