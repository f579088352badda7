"""Calls to the control server: TLS with the pinned CA, the machine's token, a connection pool."""

from __future__ import annotations

import json
import ssl
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from ..domain.errors import HotspareError, Refused, Retry
from ..workflows.wire import INSTANCE

_CONNECT_S = 5.0
_ANSWER_S = 30.0
_PREFIX = "/api/v1"
_OTHER_NAME: Final = frozenset({62, 64})    # of OpenSSL: the certificate is right, its name is not


class Away(Retry):
    """The server does not answer, or not with anything of ours: the same call may succeed
    later."""


def address(url: str) -> str:
    """``https://HOST:PORT`` without what may follow it. Raises Refused ``link.address``: the token
    goes over TLS only."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise Refused("link.address", url=url) from None
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or port == 0:
        raise Refused("link.address", url=url)
    return f"https://{parts.netloc}"


class Server:
    """One control server, known by its CA (PEM). Thread-safe. ``instance``: of the worker's
    process, see :mod:`.instance`."""

    def __init__(self, url: str, ca: str, token: str, instance: str = "") -> None:
        self.url = address(url)
        trust = ssl.create_default_context(cadata=ca)
        try:
            self._http = httpx.Client(
                base_url=self.url + _PREFIX + "/link", verify=trust, trust_env=False,
                headers={"Authorization": f"Bearer {token}", INSTANCE: instance},
                limits=httpx.Limits(max_connections=8, keepalive_expiry=25.0))
        except httpx.InvalidURL as error:
            raise Refused("link.address", url=url) from error

    def get(self, path: str) -> Any:
        return self._call("GET", path, None, _ANSWER_S)

    def post(self, path: str, body: Any, answer_s: float = _ANSWER_S) -> Any:
        """The decoded answer. Raises Away, or the server's refusal with its code."""
        return self._call("POST", path, body, answer_s)

    def _call(self, method: str, path: str, body: Any, answer_s: float) -> Any:
        content = None if body is None else json.dumps(body).encode()
        try:
            answer = self._http.request(method, path, content=content,
                                        timeout=httpx.Timeout(answer_s, connect=_CONNECT_S))
        except httpx.HTTPError as error:
            raise _away(self.url, error) from error
        try:
            data = answer.json()
            if answer.is_success:
                return data
            refusal = HotspareError.from_dict(data["error"])
        except (ValueError, KeyError, TypeError):
            refusal = None
        if refusal is None or answer.status_code >= 500:
            raise Away("link.away", url=self.url, why=f"status {answer.status_code}")
        raise refusal

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()


def _away(url: str, error: Exception) -> Away:
    """Also for a certificate that is not right: whoever stands in the way may go away again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            code = "link.name" if cause.verify_code in _OTHER_NAME else "link.untrusted"
            return Away(code, url=url, why=cause.verify_message.rstrip("."))
        cause = cause.__cause__ or cause.__context__
    return Away("link.away", url=url, why=str(error).rstrip(".") or type(error).__name__)
