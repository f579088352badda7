"""One notification on its way, in a process of its own (``python -m hotspare.courier``).

A service's library may block for ever, so whoever sends kills this process when the time is over;
it also ends itself, should its parent die first. The address, which holds secrets, comes by
standard input: it is in no argument and no environment. Nothing but one line of JSON goes out:
``{"host": …}``, ``{"error": {code, fields}}`` when the address is refused, or ``{"failed": why}``.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import json
import logging
import os
import re
import resource
import signal
import sys
from typing import Any
from urllib.parse import unquote

import requests
from apprise import AppriseAsset, NotifyBase, NotifyFormat, NotifyType, OverflowMode

from .domain.channels import SERVICES, check_parameters, scheme_of
from .domain.errors import HotspareError, Refused

CONNECT_S, READ_S = 10.0, 15.0
_MEMORY = 1 << 30               # an endless answer ends this process, not the machine
_LONGEST_WHY = 300

_CAUSE = re.compile(
    r"\[Errno -?\d+\] [\w ,'-]+|certificate verify failed: [\w ,'-]+|[Tt]imed out|"
    r"Connection unexpectedly closed|\(\d{3}, b'[^']*'\)|refused by the service: .*", re.DOTALL)


def open_channel(url: str) -> tuple[Any, str]:
    """The service behind an address, and the host that it calls. Raises Refused ``notify.…``."""
    scheme = scheme_of(url)
    service = SERVICES[scheme]
    # this plugin and no other is loaded: quicker, and nothing else can be reached
    module = importlib.import_module(f"apprise.plugins.{service.plugin}")
    kind: Any = next(x for x in vars(module).values() if _speaks(x, scheme))
    try:
        # the parameters' names as the library reads them: our own reading could be led astray
        parsed = kind.parse_url(url)
        check_parameters(scheme, parsed["qsd"])
        plugin = kind(**parsed, asset=AppriseAsset())
    except (TypeError, ValueError, AttributeError):
        raise Refused("notify.address", scheme=scheme) from None
    host = _host(plugin, scheme)
    if _in_clear(plugin) and not _loopback(host) and (
            not service.anonymous or plugin.password or parsed["qsd+"]):
        raise Refused("notify.clear", scheme=scheme)
    if scheme == "opsgenie":        # its default sends nothing at all for good news
        plugin.action = "new"
    plugin.socket_connect_timeout, plugin.socket_read_timeout = CONNECT_S, READ_S
    plugin.overflow_mode = OverflowMode.SPLIT     # long lists reach services with short messages
    return plugin, host


def _speaks(kind: Any, scheme: str) -> bool:
    return isinstance(kind, type) and issubclass(kind, NotifyBase) and any(
        scheme in ((names,) if isinstance(names, str) else names or ())
        for names in (kind.protocol, kind.secure_protocol))


def _host(plugin: Any, scheme: str) -> str:
    mode = getattr(plugin, "mode", None)
    if mode == "t2bot":             # Matrix without a server: the host is the token
        raise Refused("notify.address", scheme=scheme)
    if mode == "cloud":             # ntfy without a server: the host is the topic
        return "ntfy.sh"
    return SERVICES[scheme].host or str(getattr(plugin, "smtp_host", None) or plugin.host)


def _in_clear(plugin: Any) -> bool:
    if hasattr(plugin, "secure_mode"):      # mail
        return bool(plugin.secure_mode == "insecure")
    return bool(plugin.protocol) and not plugin.secure and getattr(plugin, "mode", "") != "cloud"


def _loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def send(url: str, title: str, body: str, severity: str) -> str:
    """Send it; returns why it failed, or nothing. Raises Refused as :func:`open_channel` does."""
    plugin, host = open_channel(url)
    said = _Said()
    _guard_requests(SERVICES[scheme_of(url)].verdict)
    try:
        sent = plugin.notify(body=body, title=title, notify_type=NotifyType(severity),
                             body_format=NotifyFormat.TEXT)
    except Exception as error:      # of a plugin: its text may hold anything
        return type(error).__name__
    finally:
        said.close()
    return "" if sent else redacted(said.why(), url, host)


def _guard_requests(verdict: str) -> None:
    """In this process, no answer leads a request elsewhere, and a message that the service
    refused in the body of a good answer was not sent."""
    plain = requests.Session.send

    def guarded(self: requests.Session, request: requests.PreparedRequest,
                **options: Any) -> requests.Response:
        response = plain(self, request, **options | {"allow_redirects": False})
        with contextlib.suppress(ValueError):
            answer = response.json() if verdict and response.ok else None
            if isinstance(answer, dict) and answer.get(verdict, 0) != 0:
                told = answer.get("errmsg") or answer.get("msg") or answer.get("message") or ""
                raise requests.RequestException(
                    f"refused by the service: {answer[verdict]} {told}")
        return response

    requests.Session.send = guarded  # type: ignore[method-assign]


class _Said(logging.Handler):
    """What the library logs while it sends: the last warning, and the cause of an exception."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._warning = self._cause = ""
        self._logger = logging.getLogger("apprise")
        self._logger.setLevel(logging.DEBUG)
        self._logger.propagate = False
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            self._warning = text
        elif "Exception" in text:
            self._cause = max(_CAUSE.findall(text), key=len, default=self._cause)

    def why(self) -> str:
        return f"{self._warning or 'The service did not take it.'} {self._cause}".strip()

    def close(self) -> None:
        self._logger.removeHandler(self)
        super().close()


def redacted(text: str, url: str, host: str) -> str:
    """``text`` without any piece of the address but its host."""
    pieces = {p for p in re.split(r"[:/?&=@,;#+]+", url.partition("://")[2]) if len(p) > 2}
    pieces |= {unquote(p) for p in pieces}
    for piece in sorted(pieces - {host}, key=len, reverse=True):
        text = text.replace(piece, "***")
    return " ".join(text.split())[:_LONGEST_WHY]


def main() -> None:
    order = json.load(sys.stdin)
    signal.alarm(int(order["seconds"]) + 1)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)               # a plugin that prints does not spoil the answer
        json.dump(_carried(order), out)


def _carried(order: dict[str, Any]) -> dict[str, Any]:
    try:
        if "body" not in order:
            return {"host": open_channel(order["url"])[1]}
        return {"failed": send(order["url"], order["title"], order["body"], order["severity"])}
    except HotspareError as error:
        return {"error": {"code": error.code, "fields": error.fields}}


if __name__ == "__main__":
    main()
