"""Calls to the control server: TLS with the pinned CA, the machine's token, a connection pool."""

from __future__ import annotations

import json
import ssl
from types import TracebackType
from typing import Any

import httpx

from ..domain.errors import HotspareError, Refused, Retry

_CONNECT_S = 5.0
_ANSWER_S = 30.0
_PREFIX = "/api/v1"


class Away(Retry):
    """The server does not answer, or not with anything of ours: the same call may succeed
    later."""


class Server:
    """One control server, known by its CA (PEM). Thread-safe."""

    def __init__(self, url: str, ca: str, token: str) -> None:
        self.url = url.rstrip("/")
        trust = ssl.create_default_context(cadata=ca)
        try:
            self._http = httpx.Client(
                base_url=self.url + _PREFIX + "/link", verify=trust, trust_env=False,
                headers={"Authorization": f"Bearer {token}"},
                limits=httpx.Limits(max_connections=8, keepalive_expiry=25.0))
        except httpx.InvalidURL as error:
            raise Refused("client.unreachable", url=url, why=str(error)) from error

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
            # Also a certificate of another CA: whoever stands in the way may go away again.
            why = str(error).rstrip(".") or type(error).__name__
            raise Away("link.away", url=self.url, why=why) from error
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
