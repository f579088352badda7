"""vSphere's faults as Hotspare's errors, by their types."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from typing import Any
from xml.parsers.expat import ExpatError

from pyVmomi import vim, vmodl

from ...domain.errors import GiveUp, HotspareError, OutOfSpace, Reconnect, Refused, Retry

LOST = (OSError, HTTPException, ExpatError, ssl.SSLError)
"""What pyVmomi lets through when the way to the server breaks: ExpatError is half an answer."""

_BY_TYPE: tuple[tuple[tuple[Any, ...], Callable[..., HotspareError]], ...] = (
    ((vim.fault.InvalidLogin,), partial(GiveUp, "platform.auth")),
    # which is a NoPermission, too
    ((vim.fault.NotAuthenticated,), partial(Reconnect, "vsphere.session-ended")),
    ((vmodl.fault.ManagedObjectNotFound,), partial(GiveUp, "vsphere.object-gone")),
    ((vim.fault.TaskInProgress, vim.fault.ConcurrentAccess),
     partial(Retry, "source.busy", after_s=15)),
    ((vim.fault.FileLocked,), partial(Retry, "source.disk-busy", after_s=5)),
    ((vim.fault.NoDiskSpace,), partial(OutOfSpace, "datastore.full")),
    ((vim.fault.TooManySnapshotLevels,), partial(GiveUp, "snapshot.too-many")),
    ((vim.fault.SnapshotFault,), partial(GiveUp, "snapshot.failed")),
    ((vim.fault.InvalidPowerState,), partial(Retry, "vsphere.power-state", after_s=5)),
    ((vim.fault.HostConnectFault, vmodl.fault.HostNotConnected, vmodl.fault.HostNotReachable,
      vmodl.fault.HostCommunication, vim.fault.NoHost), partial(Retry, "vsphere.host-away",
                                                                after_s=30)),
    ((vmodl.fault.RequestCanceled, vim.fault.Timedout), partial(Retry, "vsphere.cancelled",
                                                                after_s=5)),
    ((vmodl.fault.NotSupported,), partial(Refused, "platform.unsupported")))


def words_of(fault: Any) -> str:
    """What the server said, or at least the kind of the fault."""
    details = [m.message for m in getattr(fault, "faultMessage", None) or () if m.message]
    said = str(getattr(fault, "msg", "") or "").strip()
    kind = type(fault).__name__.rpartition(".")[2]
    return "; ".join(dict.fromkeys(filter(None, [said, *details]))) or kind


def translate(error: BaseException, **fields: Any) -> HotspareError:
    """The :class:`HotspareError` for a fault of vSphere or of the way to it; ``fields`` are
    added to it."""
    if isinstance(error, LOST):
        return Reconnect("platform.unreachable", **{"reason": str(error) or repr(error), **fields})
    fields = {**fields, "reason": words_of(error)}
    if isinstance(error, vim.fault.NoDiskSpace):
        fields = {"datastore": error.datastore or "?", **fields}
    for kinds, made in _BY_TYPE:
        if isinstance(error, kinds):
            return made(**fields)
    if isinstance(error, vim.fault.NoPermission):
        return GiveUp("vsphere.privilege", **{
            "privilege": error.privilegeId or "?",
            "object": str(getattr(error.object, "_moId", "?")), **fields})
    return GiveUp("platform.failed", **fields)


@contextlib.contextmanager
def mapped(**fields: Any) -> Iterator[None]:
    """Let no error of pyVmomi out of the block: each becomes what :func:`translate` says."""
    try:
        yield
    except (vmodl.MethodFault, *LOST) as error:
        raise translate(error, **fields) from error
