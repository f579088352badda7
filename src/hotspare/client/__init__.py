"""The REST API from Python: typed answers, the server's CA pinned, the same errors."""

from .client import Client
from .session import Session, find_session

__all__ = ["Client", "Session", "find_session"]
