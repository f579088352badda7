"""Our own small files on a datastore: in one directory for each replica, over HTTPS.

A file is made under a passing name and then moved to its own, which fails where that is taken: so
each is whole or not there, and of two writers of one name one is told. ``MoveDatastoreFile_Task``
without ``force`` is what makes it so (vSphere API reference, FileManager).
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from pyVmomi import vim

from ...domain.errors import GiveUp, HotspareError, OutOfSpace, Reconnect
from .connection import ANSWER_S, Connection
from .folder import datacenter_path, file_url
from .pinned import PinnedContext

CHUNK = 1 << 20
PASSING = ".new-"
"""What the names of files begin with until they are whole."""


def datastore_named(connection: Connection, name: str) -> Any:
    """Raises GiveUp ``storage.not-found``."""
    for obj, values in connection.collect(vim.Datastore, ["name"]):
        if values["name"] == name:
            return obj
    raise GiveUp("storage.not-found", reason=name)


class Files:
    """The files of one directory at the top of a datastore."""

    def __init__(self, connection: Connection, storage: str, directory: str) -> None:
        self._connection = connection
        self.storage, self.directory = storage, directory
        self._store: Any = None
        self._center: Any = None
        self._center_path = ""

    def path(self, name: str = "") -> str:
        """As vSphere names it: "[datastore] directory/name"."""
        return f"[{self.storage}] " + "/".join(filter(None, [self.directory, name]))

    @property
    def store(self) -> Any:
        """The datastore. Raises GiveUp ``storage.not-found``."""
        if self._store is None:
            self._store = datastore_named(self._connection, self.storage)
        return self._store

    @property
    def datacenter(self) -> Any:
        if self._center is None:
            node = self.store
            while not isinstance(node, vim.Datacenter):
                node = self._connection.read(node, "parent")["parent"]
            self._center = node
        return self._center

    def names(self, pattern: str = "*") -> dict[str, int]:
        """Bytes of each file by its name; none where there is no directory."""
        spec = vim.host.DatastoreBrowser.SearchSpec(
            matchPattern=[pattern], details=vim.host.DatastoreBrowser.FileInfo.Details(
                fileSize=True, fileType=False, fileOwner=False, modification=False))
        browser = self._connection.read(self.store, "browser")["browser"]
        try:
            with self._connection.calls():
                task = browser.SearchDatastore_Task(self.path(), spec)
            found = self._connection.wait(task)
        except GiveUp as error:
            if _missing(error):
                return {}
            raise
        return {str(f.path): int(f.fileSize or 0) for f in found.file}

    def make_directory(self) -> None:
        """Idempotent."""
        try:
            with self._connection.calls():
                self._connection.content.fileManager.MakeDirectory(
                    self.path(), self.datacenter, True)
        except GiveUp as error:
            if not isinstance(error.__cause__, vim.fault.FileAlreadyExists):
                raise

    def delete(self, name: str = "") -> bool:
        """A file, or the directory with all that is in it; whether it was there."""
        try:
            with self._connection.calls():
                task = self._connection.content.fileManager.DeleteDatastoreFile_Task(
                    self.path(name), self.datacenter)
            self._connection.wait(task)
        except GiveUp as error:
            if _missing(error):
                return False
            raise
        return True

    def write(self, name: str, pieces: Iterable[bytes], length: int) -> bool:
        """Make a file of ``length`` bytes; False when there is one of that name. Raises
        OutOfSpace ``datastore.full``, Reconnect."""
        passing = f"{PASSING}{uuid4().hex}"
        with self._request("PUT", passing, body=iter(pieces), headers={
                "Content-Length": str(length), "Content-Type": "application/octet-stream"}):
            pass
        manager = self._connection.content.fileManager
        try:
            with self._connection.calls():
                task = manager.MoveDatastoreFile_Task(
                    self.path(passing), self.datacenter, self.path(name), self.datacenter, False)
            self._connection.wait(task)
        except GiveUp as error:
            if isinstance(error.__cause__, vim.fault.FileAlreadyExists):
                self.delete(passing)
                return False
            raise
        return True

    def read(self, name: str) -> Iterator[bytes]:
        """Raises GiveUp ``volume.not-found``, Reconnect."""
        with self._request("GET", name) as answer:
            while piece := _whole(self._connection, answer):
                yield piece

    @contextlib.contextmanager
    def _request(self, method: str, name: str, **more: Any) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection
        if not self._center_path:
            self._center_path = datacenter_path(connection, self.store)
        url = urlsplit(file_url(connection, self._center_path, self.path(name)))
        headers = more.pop("headers", {}) | {"Cookie": connection.cookie}
        way = http.client.HTTPSConnection(
            connection.host, connection.port, timeout=ANSWER_S,
            context=PinnedContext(connection.thumbprint, ANSWER_S))
        try:
            with connection.calls():
                way.request(method, f"{url.path}?{url.query}", headers=headers, **more)
                answer = way.getresponse()
                if answer.status >= 300 or method == "PUT":
                    answer.read()
                if answer.status >= 300:
                    raise _refused(answer.status, answer.reason, self.path(name), self.storage)
            yield answer
        finally:
            way.close()


def _whole(connection: Connection, answer: http.client.HTTPResponse) -> bytes:
    with connection.calls():
        return answer.read(CHUNK)


def _refused(status: int, reason: str, path: str, storage: str) -> HotspareError:
    if status == 401:
        return Reconnect("vsphere.session-ended", reason=reason)
    if status == 404:
        return GiveUp("volume.not-found", reason=path)
    if status == 507:
        return OutOfSpace("datastore.full", datastore=storage, reason=reason)
    return GiveUp("folder.failed", file=path, reason=f"{status} {reason}")


def _missing(error: GiveUp) -> bool:
    return isinstance(error.__cause__, vim.fault.FileNotFound)
