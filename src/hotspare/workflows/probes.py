"""Whether an address answers, from this machine: an echo, a TCP connection."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time


def is_ours(address: str) -> bool:
    """Whether this machine has the address, so that the network behind it is one of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((address, 0))
        except OSError:
            return False
    return True


def takes_connection(address: str, port: int, source: str, timeout_s: float = 1.0) -> bool:
    """Whether a TCP connection to the port comes about."""
    with contextlib.suppress(OSError), socket.create_connection(
            (address, port), timeout_s, (source, 0)):
        return True
    return False


def echoes(address: str, source: str, timeout_s: float = 1.0) -> bool:
    """Whether the address answers an ICMP echo. Raises PermissionError where this user may send
    none."""
    with _icmp() as sender:
        sender.bind((source, 0))
        token = os.urandom(8)
        end = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            sender.sendto(_echo(token), (address, 0))
            while (left := end - time.monotonic()) > 0:
                sender.settimeout(left)
                answer, (sender_of, *_) = sender.recvfrom(1024)
                # its last 16 bytes are the message; a raw socket puts the IP header before it
                if sender_of == address and answer[-16:-15] == b"\0" and answer[-8:] == token:
                    return True
    return False


def _icmp() -> socket.socket:
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    except PermissionError:         # net.ipv4.ping_group_range; a raw socket is for root
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def _echo(token: bytes) -> bytes:
    """An echo request (RFC 792) with ``token`` as its data; the system sets the identifier."""
    head = struct.pack(">BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1)
    total = sum(struct.unpack(f">{(len(head) + len(token)) // 2}H", head + token))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return struct.pack(">BBHHH", 8, 0, ~total & 0xFFFF, os.getpid() & 0xFFFF, 1) + token
