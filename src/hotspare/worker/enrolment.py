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
from ..domain.errors import GiveUp, HotspareError, Refused
from ..services.keys import write_private
from ..workflows.wire import PROTOCOL, Enrol, digest, read_code
from .https import Away, Server, address

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

    def connect(self, instance: str = "") -> Server:
        return Server(self.server, self.ca, self.token, instance)


def load(state_dir: Path) -> Enrolment | None:
    return _read(state_dir / _KEPT)


def enrol(state_dir: Path, server: str, code: str, name: str, temp_dir: str,
          fetch_ca: FetchCa) -> Enrolment:
    """Exchange the code. A code that was used already for what is kept here is no fault: a
    service may be started with it again and again."""
    server = address(server)
    secret, fingerprint = read_code(code)

    def same(known: Enrolment | None) -> Enrolment | None:
        fits = known is not None and (known.code_digest, known.name) == (digest(secret), name)
        return replace(known, server=server) if known is not None and fits else None

    enrolled = same(load(state_dir))
    if enrolled is not None:
        if enrolled != load(state_dir):     # another address of the same server
            _write(state_dir / _KEPT, enrolled)
        return enrolled
    begun = same(_read(state_dir / _BEGUN)) or Enrolment(
        server, name, fetch_ca(server, fingerprint), secrets.token_urlsafe(32), digest(secret))
    _write(state_dir / _BEGUN, begun)
    with begun.connect() as link:
        try:
            link.post("/enrol", encode(Enrol(secret, name, digest(begun.token), PROTOCOL,
                                             __version__, temp_dir)))
        except Away as error:
            code = "client.unreachable" if error.code == "link.away" else error.code
            raise GiveUp(code, **error.fields) from error
    (state_dir / _BEGUN).replace(state_dir / _KEPT)
    return begun


def found(state_dir: Path, server: str | None = None) -> Enrolment:
    """What was enrolled; ``server`` is another address of the same server. Raises Refused
    ``enrolment.missing``."""
    enrolment = load(state_dir)
    if enrolment is None:
        raise Refused("enrolment.missing", directory=str(state_dir))
    return enrolment if server is None else replace(enrolment, server=address(server))


def _read(path: Path) -> Enrolment | None:
    try:
        return decode(Enrolment, json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HotspareError("input.file", path=str(path), why=str(error)) from error


def _write(path: Path, enrolment: Enrolment) -> None:
    write_private(path, json.dumps(encode(enrolment)).encode())
