"""TLS to a server whose certificate is known by its thumbprint, as VMware's own tools do it."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from typing import Any

from ...domain.errors import GiveUp

_THUMBPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){19}")


def checked_thumbprint(given: str) -> str:
    """SHA-1 of the certificate as VDDK wants it: upper-case pairs with colons. Raises GiveUp
    ``vsphere.thumbprint-form``."""
    text = given.strip().upper()
    if re.fullmatch(r"[0-9A-F]{40}", text):
        text = ":".join(text[n:n + 2] for n in range(0, 40, 2))
    if not _THUMBPRINT.fullmatch(text):
        raise GiveUp("vsphere.thumbprint-form", given=given[:80])
    return text


def thumbprint_of(certificate: bytes) -> str:
    """Of a certificate in DER."""
    digest = hashlib.sha1(certificate).hexdigest().upper()  # noqa: S324 - what VDDK compares
    return ":".join(digest[n:n + 2] for n in range(0, 40, 2))


class PinnedContext(ssl.SSLContext):
    """Accepts one certificate, by its thumbprint, whoever signed it; without a thumbprint what
    this machine's authorities have signed. Nothing is sent to another server: it raises GiveUp
    ``vsphere.thumbprint-unknown`` or ``vsphere.thumbprint-other`` with what was found."""

    thumbprint: str
    timeout_s: float
    certificate: bytes              # in DER: what the server has shown

    def __new__(cls, thumbprint: str, timeout_s: float) -> PinnedContext:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.load_default_certs()
        made.thumbprint, made.timeout_s, made.certificate = thumbprint, timeout_s, b""
        if thumbprint:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        return made

    def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        if sock.gettimeout() is None:
            sock.settimeout(self.timeout_s)
        host, port = sock.getpeername()[:2]
        try:
            made = super().wrap_socket(sock, *args, **kwargs)
        except ssl.SSLCertVerificationError as error:
            raise GiveUp("vsphere.thumbprint-unknown", reason=error.verify_message,
                         found=offered_thumbprint(host, port, self.timeout_s)) from None
        self.certificate = made.getpeercert(True) or b""
        if self.thumbprint:
            found = thumbprint_of(self.certificate)
            if found != self.thumbprint:
                made.close()
                raise GiveUp("vsphere.thumbprint-other", known=self.thumbprint, found=found)
        return made


def offered_thumbprint(host: str, port: int, timeout_s: float) -> str:
    """Of the certificate that a server shows now; for an operator to compare."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port), timeout_s) as plain, \
            context.wrap_socket(plain) as secured:
        return thumbprint_of(secured.getpeercert(True) or b"")
