"""What notifications are about, and the services that they may be sent to.

The list of services is closed: Apprise also knows schemes that run programs, write to this host
or load code, and parameters that read local files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from .errors import Refused

Severity = Literal["failure", "warning", "success"]

Event = Literal["rule.run-failed", "rule.test-failed", "rule.rpo-violated",
                "rule.unexpected-full", "rule.tracking-lied", "rule.both-run", "point.damaged",
                "machine.lost", "machine.back"]

EVENTS: Final[dict[str, Severity]] = {
    "rule.run-failed": "failure",
    "rule.test-failed": "failure",
    "rule.rpo-violated": "warning",
    "rule.unexpected-full": "warning",
    "rule.tracking-lied": "failure",
    "rule.both-run": "failure",
    "point.damaged": "failure",
    "machine.lost": "failure",
    "machine.back": "success",
}


@dataclass(frozen=True, slots=True)
class Service:
    """``plugin`` is the library's module. ``host`` is what is called; empty when the address
    names it. ``parameters`` are those that an address may have; ``free``: also headers,
    parameters and payload of its own (``+-:``). ``anonymous``: an address without a password has
    nothing to hide. ``verdict`` is the field of a good answer's JSON that is not zero when the
    message was refused after all."""

    plugin: str
    host: str = ""
    parameters: frozenset[str] = frozenset()
    free: bool = False
    anonymous: bool = False
    verdict: str = ""


def _service(plugin: str, parameters: str = "", host: str = "", *, free: bool = False,
             anonymous: bool = False, verdict: str = "") -> Service:
    return Service(plugin, host, frozenset(parameters.split()), free, anonymous, verdict)


_MAIL = _service("email", "to cc bcc from name reply smtp mode user pass", anonymous=True)
_JSON, _XML, _FORM = (
    _service(plugin, "method", free=True, anonymous=True)
    for plugin in ("custom_json", "custom_xml", "custom_form"))
_WORKFLOW = _service("workflows", "id sig api-version ver route routeid pa powerautomate wrap")
_NTFY = _service("ntfy", "to priority token auth mode xtags")
_GOTIFY = _service("gotify", "priority")
_MATRIX = _service("matrix", "to token version path msgtype")
_ROCKET = _service("rocketchat", "to webhook mode avatar")
_MATTERMOST = _service("mattermost", "to channel channels team botname")
_BARK = _service("bark", "to level sound group")
_SIGNAL = _service("signal_api", "from to")

SERVICES: Final[dict[str, Service]] = {
    "mailto": _MAIL, "mailtos": _MAIL,
    "json": _JSON, "jsons": _JSON, "xml": _XML, "xmls": _XML, "form": _FORM, "forms": _FORM,
    "slack": _service("slack", "to token mode", "slack.com"),
    "discord": _service("discord", "thread ping", "discord.com"),
    "workflow": _WORKFLOW, "workflows": _WORKFLOW,
    "tgram": _service("telegram", "to thread topic silent preview", "api.telegram.org"),
    "feishu": _service("feishu", "token", "open.feishu.cn", verdict="code"),
    "lark": _service("lark", "", "open.larksuite.com", verdict="code"),
    "dingtalk": _service("dingtalk", "token secret to", "oapi.dingtalk.com", verdict="errcode"),
    "wecombot": _service("wecombot", "key", "qyapi.weixin.qq.com", verdict="errcode"),
    "schan": _service("serverchan", "", "sctapi.ftqq.com", verdict="code"),
    "pover": _service("pushover", "to priority sound", "api.pushover.net"),
    "pagerduty": _service("pagerduty", "region severity class group", "pagerduty.com"),
    "opsgenie": _service("opsgenie", "to region priority tags entity alias", "opsgenie.com"),
    "ntfy": _NTFY, "ntfys": _NTFY,
    "gotify": _GOTIFY, "gotifys": _GOTIFY,
    "matrix": _MATRIX, "matrixs": _MATRIX,
    "rocket": _ROCKET, "rockets": _ROCKET,
    "mmost": _MATTERMOST, "mmosts": _MATTERMOST,
    "bark": _BARK, "barks": _BARK,
    "signal": _SIGNAL, "signals": _SIGNAL,
}
COMMON: Final = frozenset({"verify"})


def scheme_of(url: str) -> str:
    """The scheme of a channel's address. Raises Refused ``notify.scheme``."""
    scheme = url.partition("://")[0].lower()
    if scheme not in SERVICES:
        # what is no scheme may be a secret: it is not repeated
        raise Refused("notify.scheme", known=", ".join(SERVICES))
    return scheme


def check_parameters(scheme: str, names: Iterable[str]) -> None:
    """Raises Refused ``notify.parameter`` for one that the service may not have."""
    service = SERVICES[scheme]
    for name in names:
        if name[:1] in "+-:" and service.free:
            continue
        if name not in service.parameters | COMMON:
            raise Refused("notify.parameter", name=name[:40], scheme=scheme,
                          known=", ".join(sorted(service.parameters | COMMON)))
