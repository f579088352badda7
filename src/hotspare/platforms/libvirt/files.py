"""Files of a host through libvirt's storage: no agent and no shell is needed on it.

libvirt gives access to files as volumes of pools. Where no pool covers a directory, a transient
one is made for the moment. libvirt refuses a second pool on one path, so one that exists is used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import libvirt

from ...domain.errors import GiveUp, HotspareError
from ..port import Leftover
from .connection import Connection
from .liberrors import mapped, translate
from .volumes import Pool
from .xmlsafe import escape, parse, text

MAX_DOWNLOAD = 64 * 1024 * 1024
"""Bytes; what is read whole into memory here are UEFI variable stores of at most some MiB."""

_POOL_PREFIX = "hs-dir-"


class Space(NamedTuple):
    """A file system's size, in bytes."""

    capacity: int
    free: int


@contextlib.contextmanager
def directory_pool(conn: Any, directory: str, *, refresh: bool = True) -> Iterator[Any]:
    """The active pool whose path is ``directory``, made for the moment when there is none.

    Raises GiveUp ``host.directory`` when libvirt cannot read the directory."""
    pool, ours = _find_pool(conn, directory), False
    if pool is None:
        pool, ours = _make_pool(conn, directory)
    try:
        if refresh and not ours:    # starting a pool refreshes it
            with mapped(directory=directory):
                pool.refresh(0)
        yield pool
    finally:
        if ours:
            with contextlib.suppress(libvirt.libvirtError):
                pool.destroy()


def _find_pool(conn: Any, directory: str) -> Any:
    with mapped(directory=directory):
        pools = conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    for pool in pools:
        with contextlib.suppress(libvirt.libvirtError):  # it went meanwhile
            path = text(parse(pool.XMLDesc(0)), "target/path")
            if path and PurePosixPath(path) == PurePosixPath(directory):
                return pool
    return None


def _make_pool(conn: Any, directory: str) -> tuple[Any, bool]:
    xml = (f"<pool type='dir'><name>{_POOL_PREFIX}{os.urandom(4).hex()}</name>"
           f"<target><path>{escape(directory)}</path></target></pool>")
    try:
        return conn.storagePoolCreateXML(xml, 0), True
    except libvirt.libvirtError as error:
        # another task of ours may have made one at the same moment
        pool = _find_pool(conn, directory)
        if pool is not None:
            return pool, False
        fault = translate(error, directory=directory)
        if fault.action == "give_up":
            raise GiveUp("host.directory", directory=directory, reason=str(error)) from error
        raise fault from error


@contextlib.contextmanager
def in_directory(connection: Connection, path: str) -> Iterator[tuple[Pool, str]]:
    """The pool that the directory of ``path`` is, made for the moment when there is none, and the
    file's name in it."""
    where = PurePosixPath(path)
    with directory_pool(connection.conn, str(where.parent)) as handle:
        yield Pool(connection, handle.name()), where.name


def space(conn: Any, directory: str) -> Space:
    """Size and free bytes of the file system that ``directory`` is on."""
    with directory_pool(conn, directory) as pool, mapped(directory=directory):
        _state, capacity, _allocation, available = pool.info()
    return Space(int(capacity), int(available))


def download_file(conn: Any, path: str) -> bytes:
    """The whole content of a small file of the host. Raises GiveUp ``host.file-too-large``."""
    where = PurePosixPath(path)
    with directory_pool(conn, str(where.parent)) as pool, mapped(path=path):
        volume = pool.storageVolLookupByName(where.name)
        stream = conn.newStream(0)
        volume.download(stream, 0, 0, 0)
        data = bytearray()

        def take(_stream: Any, piece: bytes, _opaque: Any) -> int:
            data.extend(piece)
            return -1 if len(data) > MAX_DOWNLOAD else 0

        try:
            stream.recvAll(take, None)
            stream.finish()
        except libvirt.libvirtError:
            with contextlib.suppress(libvirt.libvirtError):
                stream.abort()
            if len(data) > MAX_DOWNLOAD:
                raise GiveUp("host.file-too-large", path=path, limit=MAX_DOWNLOAD) from None
            raise
    return bytes(data)


def delete_files(conn: Any, directory: str, mine: Callable[[str], bool],
                 kind: str) -> list[Leftover]:
    """Delete the files of ``directory`` whose names ``mine`` accepts; what was found."""
    found: list[Leftover] = []
    with directory_pool(conn, directory) as pool:
        with mapped(directory=directory):
            volumes = pool.listAllVolumes(0)
        for volume in volumes:
            name = volume.name()
            if not mine(name):
                continue
            try:
                volume.delete(0)
                found.append(Leftover(kind, f"{directory}/{name}"))
            except libvirt.libvirtError as error:
                fault: HotspareError = translate(error, path=f"{directory}/{name}")
                if fault.code != "volume.not-found":
                    found.append(Leftover(kind, f"{directory}/{name}", str(fault)))
    return found
