"""The transport over the datastore browser's HTTPS: for a disk of a machine that is off.

A running machine's disk cannot be read so. Nor can one above a snapshot: its file holds what was
changed only, and the file below it holds what is no longer true.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager
from urllib.parse import quote, urlencode

from pyVmomi import vim

from . import nbdkit
from .connection import Connection
from .transports import DiskFile


class Folder:
    """Implements :class:`.Transport`."""

    name = "folder"
    request_max = 2 * 1024 * 1024

    def refusal(self, disk: DiskFile) -> str:
        if disk.writable:
            return "folder.read-only"
        if not disk.off:
            return "folder.runs"
        return "" if disk.whole else "folder.snapshots"

    def serve(self, disk: DiskFile, prefix: str) -> AbstractContextManager[nbdkit.Nbdkit]:
        connection = disk.connection
        url = file_url(connection, datacenter_path(connection, disk.machine),
                       disk.file.removesuffix(".vmdk") + "-flat.vmdk")
        # the one certificate that was shown and is known, as its own authority
        return nbdkit.served(
            prefix, "curl", {"url": url, "user": connection.user, "timeout": "120"},
            secret=connection.access.secret or "",
            files={"cainfo": ssl.DER_cert_to_PEM_cert(connection.certificate)})


def file_url(connection: Connection, datacenter: str, file: str) -> str:
    """Where ``/folder`` offers a file "[datastore] path" of a datacenter, by its path."""
    store, _, path = file.removeprefix("[").partition("] ")
    place = {"dsName": store, "dcPath": datacenter}
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    return f"https://{host}:{connection.port}/folder/{quote(path)}?{urlencode(place)}"


def datacenter_path(connection: Connection, machine: object) -> str:
    """The inventory path of the datacenter that an object is in: ``folder/name``."""
    words: list[str] = []
    node = machine
    while node is not None:
        values = connection.read(node, "name", "parent")
        if words or isinstance(node, vim.Datacenter):
            words.insert(0, str(values["name"]))
        node = values.get("parent")
    return "/".join(words[1:])      # without the root folder


