"""How a DR machine becomes one of a control server's: the one-time code for a token of its own.

The code carries the fingerprint of the server's CA. The CA is fetched without trust, compared, and
pinned from then on. The machine makes its token itself and keeps it before it sends its digest, so
an exchange that is cut off anywhere is repeated with the same code.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import __version__
from ..domain.codec import decode, encode
from ..domain.errors import HotspareError, Refused
from ..services.keys import write_private
from ..workflows.wire import PROTOCOL, Enrol, digest, read_code
from .https import Server

_KEPT = "worker.json"
_BEGUN = "worker.json.begun"

FetchCa = Callable[[str, str], str]
"""``fetch(url, fingerprint)``: the server's CA in PEM, compared with its fingerprint."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the machine keeps, in one file that only its user reads."""

    server: str
    name: str
    ca: str                         # PEM
    token: str = field(repr=False)
    code_digest: str                # of the code that was used

    def connect(self) -> Server:
        return Server(self.server, self.ca, self.token)


def load(state_dir: Path) -> Enrolment | None:
    return _read(state_dir / _KEPT)


def enrol(state_dir: Path, server: str, code: str, name: str, temp_dir: str,
          fetch_ca: FetchCa) -> Enrolment:
    """Exchange the code. A code that was used already for what is kept here is no fault: a
    service may be started with it again and again."""
    server = server.rstrip("/")
    secret, fingerprint = read_code(code)
    for known in (load(state_dir), _read(state_dir / _BEGUN)):
        if known is not None and (known.code_digest, known.name) == (digest(secret), name):
            enrolment = replace(known, server=server)
            break
    else:
        enrolment = Enrolment(server, name, fetch_ca(server, fingerprint),
                              secrets.token_urlsafe(32), digest(secret))
    if enrolment == load(state_dir):
        return enrolment
    _write(state_dir / _BEGUN, enrolment)
    with enrolment.connect() as link:
        link.post("/enrol", encode(Enrol(secret, name, digest(enrolment.token), PROTOCOL,
                                         __version__, temp_dir)))
    (state_dir / _BEGUN).replace(state_dir / _KEPT)
    return enrolment


def found(state_dir: Path, server: str | None = None) -> Enrolment:
    """What was enrolled; ``server`` is another address of the same server. Raises Refused
    ``enrolment.missing``."""
    enrolment = load(state_dir)
    if enrolment is None:
        raise Refused("enrolment.missing", directory=str(state_dir))
    return enrolment if server is None else replace(enrolment, server=server.rstrip("/"))


def _read(path: Path) -> Enrolment | None:
    try:
        return decode(Enrolment, json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HotspareError("input.file", path=str(path), why=str(error)) from error


def _write(path: Path, enrolment: Enrolment) -> None:
    write_private(path, json.dumps(encode(enrolment)).encode())
