"""Addresses of platforms: none may name a command, an option of ssh, or a secret."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..domain.errors import Refused
from .kinds import KINDS

_TRANSPORTS = {"qemu", "qemu+unix", "qemu+ssh"}
_PARAMETERS = {"socket", "proxy"}
"""Of libvirt's URI parameters, those that the driver takes. ``command`` and ``netcat`` name
programs, ``no_verify`` gives the machine's trust away; key and known hosts are options."""

_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}|[0-9a-fA-F:]{2,45}")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def check_uri(kind: str, uri: str) -> None:
    """Raises Refused ``platform.kind``, or ``platform.address`` that names what is wrong."""
    if kind not in KINDS:
        raise Refused("platform.kind", kind=kind, known=", ".join(KINDS))
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018  (raises for a port that is none)
        host, password = parts.hostname, parts.password
    except ValueError as error:
        raise _bad("it is not an address") from error
    if password is not None:
        raise _bad("a password does not belong into an address")
    if host is not None and not _HOST.fullmatch(host):
        raise _bad("the name of the host has characters that no host name has")
    if kind == "libvirt":
        _check_libvirt(parts)
    else:
        _check_vsphere(parts)


def _bad(why: str) -> Refused:
    return Refused("platform.address", why=why)


def _check_libvirt(parts: SplitResult) -> None:
    if parts.scheme not in _TRANSPORTS:
        raise _bad(f"it must begin with one of {', '.join(sorted(_TRANSPORTS))}")
    if parts.username is not None and not _USER.fullmatch(parts.username):
        raise _bad("the user has characters that no user name has")
    if parts.hostname is None and parts.scheme == "qemu+ssh":
        raise _bad("the host is missing")
    if parts.path not in {"/system", "/session"}:
        raise _bad("it must end with /system or /session")
    try:
        parameters = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) \
            if parts.query else []
    except ValueError as error:
        raise _bad("it is not an address") from error
    for name, _value in parameters:
        if name not in _PARAMETERS:
            raise _bad(f"the parameter {name[:40]} is not allowed")


def _check_vsphere(parts: SplitResult) -> None:
    if parts.scheme != "https":
        raise _bad("it must begin with https")
    if parts.hostname is None:
        raise _bad("the host is missing")
    if parts.username is not None:
        raise _bad("the user belongs into the option user")
    if parts.path not in {"", "/", "/sdk"} or parts.query or parts.fragment:
        raise _bad("after the host only /sdk may follow")
