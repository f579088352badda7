"""Which server, and as whom: from the environment, a login, or the server's own state directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..domain.errors import Refused


@dataclass(frozen=True, slots=True)
class Session:
    url: str
    token: str = field(repr=False)
    ca: str | None = None           # path of the CA to trust; None: the system's


def default_state_dir() -> Path:
    """Where ``hotspare up`` keeps its state when nothing else is said."""
    named = os.environ.get("HOTSPARE_STATE_DIR")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/hotspare")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "hotspare"


def config_dir() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "hotspare"


def session_file() -> Path:
    return config_dir() / "session.json"


def find_session() -> Session:
    """The first that is there: HOTSPARE_SERVER with HOTSPARE_TOKEN, the server of
    HOTSPARE_STATE_DIR, the last login, the server of the default state directory."""
    url, token = os.environ.get("HOTSPARE_SERVER"), os.environ.get("HOTSPARE_TOKEN")
    if url and token:
        return Session(url, token, os.environ.get("HOTSPARE_CA"))
    found = None
    if os.environ.get("HOTSPARE_STATE_DIR"):
        found = _of_state_dir()
    found = found or _of_login() or _of_state_dir()
    if found is None:
        raise Refused("client.no-server")
    return found


def _of_login() -> Session | None:
    try:
        data = json.loads(session_file().read_text())
        return Session(data["url"], data["token"], data["ca"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _of_state_dir() -> Session | None:
    """Whoever can read the state directory is the server's administrator."""
    folder = default_state_dir()
    try:
        data = json.loads((folder / "server.json").read_text())
        return Session(data["url"], (folder / "local-token").read_text().strip(), data["ca"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(session: Session) -> Path:
    path = session_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, json.dumps(
        {"url": session.url, "token": session.token, "ca": session.ca}))
    return path


def forget() -> None:
    session_file().unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    new.replace(path)
