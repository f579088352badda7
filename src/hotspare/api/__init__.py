"""The REST API, ``/api/v1``: shapes, errors, authentication; all work is done by the services."""

from .app import create_app

__all__ = ["create_app"]
