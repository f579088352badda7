"""What a DR machine and its control server say to each other over HTTPS.

Every body is JSON of one of these shapes. A field that is added has a default, and whoever reads
leaves out what it does not know, so the version before keeps working (docs/decisions/0005).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from ..domain.errors import Refused
from ..domain.limits import Configured
from ..domain.proof import Check, Verdict
from ..platforms.port import PlatformAccess
from .link import Limits, Progress, Task

PROTOCOL = 3                        # 3: points that were told before are named only
OLDEST = max(1, PROTOCOL - 1)
"""The server takes machines of its own protocol and of the one before."""

INSTANCE = "Hotspare-Instance"
"""Header of every call: which process it is that speaks for the machine."""

LARGEST_REPORT = 24 * 1024 * 1024
"""Bytes of one request: an inventory of some 50,000 machines."""


@dataclass(frozen=True, slots=True)
class Enrol:
    """``code`` is the secret part of the one-time code. The machine makes its token itself and
    sends the digest only, so an exchange whose answer was lost is simply asked for again."""

    code: str
    name: str
    token_digest: str               # BLAKE3, 64 hex digits
    protocol: int
    version: str
    temp_dir: str


@dataclass(frozen=True, slots=True)
class Sync:
    """The long poll: answered at once when there is another version than ``seen``, otherwise
    after ``wait`` seconds."""

    protocol: int
    version: str
    temp_dir: str
    ahead: float | None = None      # seconds that its clock is ahead of the server's, if known
    seen: int | None = None
    wait: float = 0.0
    configured: Configured = field(default_factory=Configured)  # by the machine's own worker.toml
    busy: dict[str, Any] | None = None          # why it takes no new task now: code, fields
    before: str = ""                # the process before this one, as INSTANCE


@dataclass(frozen=True, slots=True)
class LiveTask:
    task: Task
    limits: Limits


@dataclass(frozen=True, slots=True)
class Pending:
    """A task that waits for a limit; ``message`` says for which."""

    task: int
    kind: str
    of: str
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """All that the machine has to know now: its live tasks, and those that wait for it."""

    version: int
    reported: int                   # number of the last report that the server has
    tasks: tuple[LiveTask, ...] = ()
    pending: tuple[Pending, ...] = ()
    came: float = 0.0               # when the poll came and when it is answered, by the
    answered: float = 0.0           # server's clock: the machine measures its own by these
    stamp: int = 0                  # of Secrets: those with another one are old


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a task needs and nobody writes down. They are good until a poll tells another stamp,
    which the server sends at once when the way to a platform was changed."""

    stamp: int
    platforms: dict[str, PlatformAccess] = field(default_factory=dict)      # by id
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)        # errors, by id
    key: str = field(default="", repr=False)        # the rule's, in hex


def overview(synced: Synced | None, steps: Mapping[int, str],
             progress: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """A machine's tasks as it shows them on its own host, JSON; ``steps`` and ``progress`` by
    task."""
    if synced is None:
        return []
    return [{
        "task": x.task.id, "kind": x.task.kind, "state": "running", "code": "", "message": "",
        "of": x.task.rule.name if x.task.rule else x.task.platform or "",
        "step": steps.get(x.task.id, ""), "progress": progress.get(x.task.id)}
        for x in synced.tasks
    ] + [{
        "task": p.task, "kind": p.kind, "state": "pending", "code": p.code, "message": p.message,
        "of": p.of, "step": "", "progress": None} for p in synced.pending]


@dataclass(frozen=True, slots=True)
class Call:
    """One report of a task. ``seq`` grows over the machine's whole life; what the server has it
    skips. ``at`` is when it happened, by the machine's clock."""

    seq: int
    call: str                       # step, log, pause, adopt, failover, failback, …
    task: int
    epoch: int
    at: float
    body: dict[str, Any] = field(default_factory=dict)


def point_digest(point: dict[str, Any]) -> str:
    """Of a restore point's manifest in its JSON form: BLAKE3, 64 hex digits."""
    return blake3(json.dumps(point, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class ToldPoints:
    """The body of the call ``adopt``: what the server was told of a rule's points before is
    named by number and digest, as it is most of it and each run says it three times. What the
    server does not know by its name it refuses, and is told whole then."""

    def __init__(self) -> None:
        self._told: dict[str, dict[int, str]] = {}      # digests by rule and number

    def body(self, rule: str, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Of these manifests, in their JSON form."""
        told = self._told.pop(rule, {})
        digests = {point["number"]: point_digest(point) for point in points}
        if digests:
            self._told[rule] = digests
        return {"points": [
            {"number": n, "digest": digest} if told.get(n) == digest else point
            for point, (n, digest) in zip(points, digests.items(), strict=True)]}

    def refused(self) -> None:
        """A body was: nothing counts as told."""
        self._told = {}


def proof_body(verdict: Verdict, checks: Sequence[Check], screenshot: bytes | None
               ) -> dict[str, Any]:
    """Body of the call ``proof``."""
    return {"verdict": verdict, "checks": list(checks), "screenshot":
            None if screenshot is None else base64.b64encode(screenshot).decode()}


@dataclass(frozen=True, slots=True)
class Report:
    ahead: float = 0.0              # as in Sync; what happened is put right by it
    calls: tuple[Call, ...] = ()
    progress: dict[str, Progress] = field(default_factory=dict)    # by task


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules that a machine has folders of."""

    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reported:
    """``refused``: errors by ``seq``. They are said and not repeated."""

    reported: int
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)


# --- the one-time code of an enrolment: a secret and the fingerprint of the server's CA -----------

SECRET_BYTES = 18                   # no padding in base64


def make_code(secret: str, ca_fingerprint: str) -> str:
    """``secret`` in URL-safe base64, ``ca_fingerprint`` the SHA-256 in hex."""
    return secret + base64.urlsafe_b64encode(bytes.fromhex(ca_fingerprint)).decode().rstrip("=")


def read_code(code: str) -> tuple[str, str]:
    """Secret and fingerprint of a code. Raises Refused ``enrolment.code``."""
    length = SECRET_BYTES * 4 // 3
    secret, rest = code.strip()[:length], code.strip()[length:]
    try:
        fingerprint = base64.urlsafe_b64decode(rest.encode("ascii") + b"=")
    except (UnicodeEncodeError, binascii.Error):
        fingerprint = b""
    if len(fingerprint) != 32:
        raise Refused("enrolment.code")
    return secret, fingerprint.hex()


def digest(secret: str) -> str:
    """What is kept of a code or a token."""
    return blake3(secret.encode()).hexdigest()
