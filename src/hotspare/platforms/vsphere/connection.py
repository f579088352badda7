"""One session at a vCenter or an ESXi host."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from pyVim.connect import SmartStubAdapter
from pyVmomi import vim, vmodl

from ...domain.errors import GiveUp, HotspareError, Refused
from ..port import PlatformAccess
from .faults import LOST, mapped, translate
from .pinned import PinnedContext, checked_thumbprint, thumbprint_of

CONNECT_S, ANSWER_S = 10.0, 180.0
"""The first is for reaching the server; the second for one answer of it: the changed areas of a
large disk take minutes on a busy host. Long work is done by tasks, which are asked for."""

PAGE = 250
"""Objects of one answer: some 20 KiB each with all devices."""

_AT_ONCE = 2
"""Answers that are waited for or taken apart at a time."""


class Connection:
    """A session that is opened when first used and again when it has ended.

    Options of ``access``: ``user``, ``thumbprint`` (SHA-1 of the server's certificate), and those
    of :mod:`.vddk`. ``access.secret`` is the password.
    """

    def __init__(self, access: PlatformAccess) -> None:
        """Raises Refused ``platform.uri``, GiveUp ``vsphere.thumbprint-form``; does not
        connect."""
        self.access = access
        uri = urlsplit(access.uri)
        if uri.scheme != "https" or not uri.hostname or uri.path not in ("", "/", "/sdk"):
            raise Refused("platform.uri", uri=access.uri)
        self.host, self.port = uri.hostname, uri.port or 443
        given = access.options.get("thumbprint", "")
        self.thumbprint = checked_thumbprint(given) if given else ""
        self.user = access.options.get("user", "")
        self._lock = threading.RLock()
        self._content: Any = None
        self._stub: Any = None
        self.certificate = b""
        """In DER, of the server that the session is with."""

    @property
    def content(self) -> Any:
        """The live ``ServiceContent``. Raises Reconnect ``platform.unreachable``, GiveUp
        ``platform.auth``, ``vsphere.user``, or what :class:`.PinnedContext` raises."""
        with self._lock:
            if self._content is None:
                if not self.user or self.access.secret is None:
                    raise GiveUp("vsphere.user", uri=self.access.uri)
                with mapped(uri=self.access.uri):
                    self._open()
            return self._content

    def _open(self) -> None:
        # pyVmomi asks for the versions without a time-out
        socket.create_connection((self.host, self.port), CONNECT_S).close()
        context = PinnedContext(self.thumbprint, ANSWER_S)
        stub = SmartStubAdapter(self.host, self.port, sslContext=context,
                                httpConnectionTimeout=ANSWER_S, connectionPoolTimeout=60)
        content: Any = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        content.sessionManager.Login(self.user, self.access.secret)
        self._content, self._stub = content, stub
        self.certificate = context.certificate

    @contextlib.contextmanager
    def calls(self, **fields: Any) -> Iterator[None]:
        """As :func:`.mapped`; a session that has ended or cannot be reached is dropped, so that
        the next use opens one. Objects of this session are of no use then."""
        try:
            with mapped(**fields):
                yield
        except HotspareError as error:
            if error.action == "reconnect":
                self._drop()
            raise

    def close(self) -> None:
        """Log out; twice is fine."""
        content = self._content
        if content is not None:
            with contextlib.suppress(vmodl.MethodFault, *LOST):
                content.sessionManager.Logout()
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            stub, self._content, self._stub = self._stub, None, None
            if stub is not None:
                stub.DropConnections()

    # --- what is asked for often -----------------------------------------------------------------

    @property
    def shown_thumbprint(self) -> str:
        """The one that is known, or that of a certificate which an authority vouched for."""
        return self.thumbprint or thumbprint_of(self.certificate)

    @property
    def cookie(self) -> str:
        """The session's, for requests over HTTPS beside it."""
        return str(self.content.rootFolder._stub.cookie).split(";")[0]

    @property
    def is_vcenter(self) -> bool:
        return bool(self.content.about.apiType == "VirtualCenter")

    def collect(self, kind: Any, paths: Sequence[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """All objects of a kind with these properties, those that are unset left out; page by
        page, so that memory does not grow with their number."""
        with self.calls():
            content = self.content
            view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
        try:
            yield from self._pages(vmodl.query.PropertyCollector.FilterSpec(
                objectSet=[vmodl.query.PropertyCollector.ObjectSpec(
                    obj=view, skip=True,
                    selectSet=[vmodl.query.PropertyCollector.TraversalSpec(
                        path="view", skip=False, type=type(view))])],
                propSet=[vmodl.query.PropertyCollector.PropertySpec(
                    type=kind, pathSet=list(paths))]))
        finally:
            with contextlib.suppress(vmodl.MethodFault, *LOST):
                view.Destroy()

    def details(self, objs: Sequence[Any], paths: Sequence[str]
                ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Properties of some objects of one kind, by their references; without those that are
        gone."""
        try:
            yield from [(obj._moId, values) for obj, values in self._pages(_filter(objs, paths))]
        except GiveUp as error:
            if error.code != "vsphere.object-gone":
                raise
            if len(objs) > 1:       # the server answers for none, when one is gone
                for obj in objs:
                    yield from self.details([obj], paths)

    def details_of_each(self, batches: Iterable[Sequence[Any]], paths: Sequence[str]
                        ) -> Iterator[dict[str, dict[str, Any]]]:
        """As :meth:`details`, of one batch after the other: while one is taken apart here the
        server answers for the next."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            asked: deque[Future[dict[str, dict[str, Any]]]] = deque()
            for batch in batches:
                asked.append(pool.submit(lambda objs: dict(self.details(objs, paths)), batch))
                if len(asked) == _AT_ONCE:
                    yield asked.popleft().result()
            while asked:
                yield asked.popleft().result()

    def read(self, obj: Any, *paths: str) -> dict[str, Any]:
        """Properties of one object in one call. Raises GiveUp ``vsphere.object-gone``."""
        found = [values for _, values in self._pages(_filter([obj], paths))]
        if not found:
            raise GiveUp("vsphere.object-gone", reason=str(obj._moId))
        return found[0]

    def _pages(self, spec: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        with self.calls():
            collector = self.content.propertyCollector
            page = collector.RetrievePropertiesEx(
                [spec], vmodl.query.PropertyCollector.RetrieveOptions(maxObjects=PAGE))
        while page is not None:
            following = self._ahead(collector, page.token) if page.token else None
            for item in page.objects:
                yield item.obj, {p.name: p.val for p in item.propSet}
            page = following() if following is not None else None

    def _ahead(self, collector: Any, token: str) -> Callable[[], Any]:
        """Ask for the next page while this one is worked on: the server answers as slowly as
        this machine reads."""
        def ask() -> Any:
            with self.calls():
                return collector.ContinueRetrievePropertiesEx(token)

        thread = ThreadPoolExecutor(1)
        asked = thread.submit(ask)
        thread.shutdown(wait=False)
        return asked.result

    def wait(self, task: Any, **fields: Any) -> Any:
        """The result of a task of vSphere; raises what its fault means. For as long as it
        takes."""
        pause = 0.02
        while True:
            with self.calls(**fields):
                info = task.info
            if info.state == "success":
                return info.result
            if info.state == "error":
                raise translate(info.error, **fields) from info.error
            time.sleep(pause)
            pause = min(1.0, pause * 1.3)


def _filter(objs: Sequence[Any], paths: Sequence[str]) -> Any:
    return vmodl.query.PropertyCollector.FilterSpec(
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=obj, skip=False) for obj in objs],
        propSet=[vmodl.query.PropertyCollector.PropertySpec(
            type=type(objs[0]), pathSet=list(paths))])
