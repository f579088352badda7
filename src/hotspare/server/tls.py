"""The server's own small CA and its certificate, made at the first start.

Clients pin the CA, so the leaf can be renewed (before it ends, or when the host's names change)
without anybody noticing.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..services.keys import write_private

_CA_LIFE = dt.timedelta(days=3650)
_LEAF_LIFE = dt.timedelta(days=397)
_RENEW_BEFORE = dt.timedelta(days=30)
_CLOCK_SLACK = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of the server's TLS, and the CA's SHA-256 in hex."""

    ca: Path
    certificate: Path
    key: Path
    fingerprint: str


def ensure(folder: Path, hosts: Sequence[str]) -> Identity:
    """Make what is missing, renew what is ending. ``hosts``: names and addresses that clients
    may call the server by, beside its own."""
    folder.mkdir(mode=0o700, exist_ok=True)
    identity = Identity(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem", "")
    ca_key_file = folder / "ca-key.pem"
    if not (identity.ca.exists() and ca_key_file.exists()):
        _make_ca(identity.ca, ca_key_file)
        identity.certificate.unlink(missing_ok=True)
    ca = x509.load_pem_x509_certificate(identity.ca.read_bytes())
    names = _names(hosts)
    if not _usable(identity, names):
        ca_key = serialization.load_pem_private_key(ca_key_file.read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        _make_leaf(identity, ca, ca_key, names)
    return Identity(identity.ca, identity.certificate, identity.key,
                    ca.fingerprint(hashes.SHA256()).hex())


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    wanted = {"localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn(), *hosts}
    names: list[x509.GeneralName] = []
    for name in sorted(wanted - {"", "0.0.0.0", "::"}):  # noqa: S104  (left out, not listened at)
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name.isascii():
                names.append(x509.DNSName(name))
    return names


def _usable(identity: Identity, names: list[x509.GeneralName]) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
        has = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    ends = leaf.not_valid_after_utc
    return (identity.key.exists() and set(has) == set(names)
            and ends - dt.datetime.now(dt.UTC) > _RENEW_BEFORE)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey,
             life: dt.timedelta) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SLACK).not_valid_after(now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False))


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False)


def _make_ca(path: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial in the name tells one server's CA from another's in a client's trust store.
    name = x509.Name([x509.NameAttribute(
        NameOID.COMMON_NAME, f"Hotspare CA {x509.random_serial_number():040x}"[:40])])
    certificate = (_builder(name, name, key.public_key(), _CA_LIFE)
                   .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                   .add_extension(_usage(ca=True), critical=True)
                   .sign(key, hashes.SHA256()))
    _save_key(key_path, key)
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))


def _make_leaf(identity: Identity, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey,
               names: list[x509.GeneralName]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hotspare server")])
    issuer_key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, ca.subject, key.public_key(), _LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key),
                       critical=False)
        .sign(ca_key, hashes.SHA256()))
    # The key first: a certificate without its key is made again, a stray key is overwritten.
    identity.certificate.unlink(missing_ok=True)
    _save_key(identity.key, key)
    write_private(identity.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _save_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(path, key.private_bytes(serialization.Encoding.PEM,
                                          serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()))
