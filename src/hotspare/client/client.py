"""The client. Errors of the server are raised here with the codes that they have there."""

from __future__ import annotations

import hashlib
import ssl
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

import httpx

from ..domain.errors import GiveUp, HotspareError, Refused
from ..domain.messages import language
from . import shapes
from .session import Session

_TIMEOUT_S = 30.0
_PAGE = 500


class Client:
    """One connection to one server. Not for several threads at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        headers: dict[str, str] = {"Accept-Language": language.get()}
        if session.token:
            headers["Authorization"] = f"Bearer {session.token}"
        self._http = httpx.Client(
            base_url=session.url.rstrip("/") + "/api/v1", headers=headers,
            verify=_trust(session), timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._http.close()

    def request(self, method: str, path: str, *, body: dict[str, Any] | None = None,
                parameters: dict[str, Any] | None = None,
                timeout_s: float = _TIMEOUT_S) -> Any:
        """The decoded answer, None for an empty one. ``path`` is below ``/api/v1``."""
        wanted = {k: v for k, v in (parameters or {}).items() if v is not None}
        try:
            answer = self._http.request(method, path, json=body, params=wanted,
                                        timeout=timeout_s)
        except httpx.HTTPError as error:
            raise _unreachable(self._session.url, error) from error
        except UnicodeEncodeError as error:     # an argument of the command that is no UTF-8
            raise Refused("input.invalid", summary="an argument is no valid text") from error
        return _decoded(answer)

    def _all(self, path: str, parameters: dict[str, Any] | None = None) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            part = self.request("GET", path, parameters={
                "limit": _PAGE, **(parameters or {}), "cursor": cursor})
            yield from part["items"]
            cursor = part["next"]
            if cursor is None:
                return

    # --- session -------------------------------------------------------------------------------

    def login(self, user: str, password: str) -> shapes.Login:
        return cast(shapes.Login, self.request(
            "POST", "/login", body={"user": user, "password": password}))

    def logout(self) -> None:
        self.request("POST", "/logout")

    # --- platforms and machines ----------------------------------------------------------------

    def platforms(self) -> list[shapes.Platform]:
        return list(self._all("/platforms"))

    def platform(self, ref: str) -> shapes.Platform:
        return cast(shapes.Platform, self.request("GET", f"/platforms/{_seg(ref)}"))

    def add_platform(self, name: str, uri: str, *, kind: str = "libvirt",
                     options: dict[str, str] | None = None,
                     secret: str | None = None) -> shapes.Platform:
        return cast(shapes.Platform, self.request("POST", "/platforms", body={
            "name": name, "uri": uri, "kind": kind, "options": options or {},
            "secret": secret}))

    def edit_platform(self, ref: str, changes: dict[str, Any]) -> shapes.Platform:
        return cast(shapes.Platform, self.request("PATCH", f"/platforms/{_seg(ref)}",
                                                  body=changes))

    def check_platform(self, ref: str) -> int:
        return int(self.request("POST", f"/platforms/{_seg(ref)}/check")["task"])

    def refresh_platform(self, ref: str) -> int:
        return int(self.request("POST", f"/platforms/{_seg(ref)}/refresh")["task"])

    def rebuild(self, platform: str) -> int:
        return int(self.request("POST", f"/platforms/{_seg(platform)}/rebuild")["task"])

    def remove_platform(self, ref: str) -> None:
        self.request("DELETE", f"/platforms/{_seg(ref)}")

    def vms(self, platform: str) -> list[shapes.Vm]:
        return list(self._all(f"/platforms/{_seg(platform)}/vms"))

    def machines(self) -> list[shapes.Machine]:
        return list(self._all("/machines"))

    # --- rules ---------------------------------------------------------------------------------

    def rules(self, **wanted: str | None) -> list[shapes.Rule]:
        """``wanted``: state, group, machine, source, target, text, sort."""
        return list(self._all("/rules", wanted))

    def rule(self, ref: str) -> shapes.Rule:
        return cast(shapes.Rule, self.request("GET", f"/rules/{_seg(ref)}"))

    def create_rule(self, settings: dict[str, Any]) -> shapes.Rule:
        return cast(shapes.Rule, self.request("POST", "/rules", body=settings))

    def edit_rule(self, ref: str, changes: dict[str, Any]) -> shapes.Rule:
        return cast(shapes.Rule, self.request("PATCH", f"/rules/{_seg(ref)}", body=changes))

    def act(self, action: str, rules: list[str], *, group: str | None = None,
            delete_replica: bool | None = None, force: bool = False) -> list[shapes.Action]:
        """Start, stop or delete many rules; the answer says for each what became of it."""
        return cast(list[shapes.Action], self.request("POST", "/rules/actions", body={
            "action": action, "rules": rules, "group": group, "delete_replica": delete_replica,
            "force": force}))

    def start_rule(self, ref: str, **options: bool) -> int:
        return int(self.request("POST", f"/rules/{_seg(ref)}/start", body=options)["task"])

    def stop_rule(self, ref: str) -> shapes.Rule:
        return cast(shapes.Rule, self.request("POST", f"/rules/{_seg(ref)}/stop"))

    def delete_rule(self, ref: str, delete_replica: bool | None = None,
                    force: bool = False) -> int:
        return int(self.request("DELETE", f"/rules/{_seg(ref)}", parameters={
            "delete_replica": delete_replica, "force": force})["task"])

    def points(self, rule: str) -> list[shapes.Point]:
        return list(self._all(f"/rules/{_seg(rule)}/points"))

    def failover(self, rule: str, point: int | None, **options: bool) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/failover",
                                body={"point": point} | options)["task"])

    def planned_failover(self, rule: str, grace_s: float, power_off: bool) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/planned-failover",
                                body={"grace_s": grace_s, "power_off": power_off})["task"])

    def preview_schedule(self, body: dict[str, Any]) -> shapes.SchedulePreview:
        return cast(shapes.SchedulePreview,
                    self.request("POST", "/schedules/preview", body=body))

    def permanent(self, rule: str, point: int | None, confirm: str, **options: bool) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/permanent",
                                body={"point": point, "confirm": confirm} | options)["task"])

    def scrub(self, rule: str, point: int | None, every: bool) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/scrub",
                                body={"point": point, "all": every})["task"])

    def undo(self, rule: str) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/undo")["task"])

    def plug_source(self, rule: str, plugged: bool) -> int:
        what = "plug" if plugged else "unplug"
        return int(self.request("POST", f"/rules/{_seg(rule)}/source/{what}")["task"])
    def start_test(self, rule: str, wanted: dict[str, Any]) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/tests", body=wanted)["task"])

    def tests(self, rule: str) -> list[shapes.Test]:
        """Newest first."""
        return list(self._all(f"/rules/{_seg(rule)}/tests"))

    def test(self, test: int) -> shapes.Test:
        return cast(shapes.Test, self.request("GET", f"/tests/{test}"))

    def save_screenshot(self, test: int, path: Path) -> None:
        self._save(f"/tests/{test}/screenshot", path, {})

    def fail_back(self, rule: str, **options: Any) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/failback", body=options)["task"])

    def switch_back(self, rule: str, **options: Any) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/failback/switch",
                                body=options)["task"])

    def commit_failback(self, rule: str) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/failback/commit")["task"])

    def undo_failback(self, rule: str, confirm: str | None = None) -> int:
        return int(self.request("POST", f"/rules/{_seg(rule)}/failback/undo",
                                body={"confirm": confirm})["task"])

    # --- groups, templates ---------------------------------------------------------------------

    def groups(self) -> list[shapes.Group]:
        return list(self._all("/groups"))

    def group(self, ref: str) -> shapes.Group:
        return cast(shapes.Group, self.request("GET", f"/groups/{_seg(ref)}"))

    def create_group(self, settings: dict[str, Any]) -> shapes.Group:
        return cast(shapes.Group, self.request("POST", "/groups", body=settings))

    def templates(self) -> list[shapes.Template]:
        return list(self._all("/templates"))

    def template(self, ref: str) -> shapes.Template:
        return cast(shapes.Template, self.request("GET", f"/templates/{_seg(ref)}"))

    def save_template(self, name: str, rule: str | None,
                      settings: dict[str, Any]) -> shapes.Template:
        return cast(shapes.Template, self.request("POST", "/templates", body={
            "name": name, "rule": rule, "settings": settings}))

    def delete_template(self, ref: str) -> None:
        self.request("DELETE", f"/templates/{_seg(ref)}")

    # --- tasks ---------------------------------------------------------------------------------

    def tasks(self, rule: str | None = None, state: str | None = None,
              largest: int = 50) -> list[shapes.Task]:
        """Newest first, at most ``largest``."""
        found: list[shapes.Task] = []
        for task in self._all("/tasks", {"rule": rule, "state": state,
                                         "limit": min(largest, _PAGE)}):
            found.append(task)
            if len(found) >= largest:
                break
        return found

    def task(self, task: int) -> shapes.Task:
        return cast(shapes.Task, self.request("GET", f"/tasks/{task}"))

    def stop_task(self, task: int) -> shapes.Task:
        return cast(shapes.Task, self.request("POST", f"/tasks/{task}/stop"))

    def task_log(self, task: int, **wanted: Any) -> list[shapes.LogLine]:
        """As :meth:`rule_log`."""
        return self._log(f"/tasks/{task}/log", **wanted)

    def rule_log(self, rule: str, **wanted: Any) -> list[shapes.LogLine]:
        """``order`` oldest or newest, ``level`` the lowest, ``largest`` how many at most."""
        return self._log(f"/rules/{_seg(rule)}/log", **wanted)

    def _log(self, path: str, order: str | None = None, level: str | None = None,
             largest: int | None = None) -> list[shapes.LogLine]:
        lines = self._all(path, {"order": order, "level": level})
        return list(islice(lines, largest))

    def save_log(self, rule: str, path: Path, form: str, **wanted: str | None) -> None:
        """The rule's whole log as a file, ``form`` txt or csv."""
        self._save(f"/rules/{_seg(rule)}/log/download", path, {"format": form, **wanted})

    # --- statistics ----------------------------------------------------------------------------

    def rule_statistics(self, rule: str, days: int) -> shapes.RuleStatistics:
        return cast(shapes.RuleStatistics, self.request(
            "GET", f"/rules/{_seg(rule)}/statistics", parameters={"days": days}))

    def statistics(self, days: int, group: str | None = None) -> shapes.ScopeStatistics:
        """Of a group, or of all rules."""
        at = "/statistics" if group is None else f"/groups/{_seg(group)}/statistics"
        return cast(shapes.ScopeStatistics, self.request("GET", at, parameters={"days": days}))

    def save_statistics(self, path: Path, days: int, rule: str | None = None,
                        group: str | None = None) -> None:
        """The days as CSV."""
        at = (f"/rules/{_seg(rule)}" if rule is not None else
              f"/groups/{_seg(group)}" if group is not None else "")
        self._save(f"{at}/statistics", path, {"days": days, "format": "csv"})

    def save_tasks(self, path: Path, rule: str | None, state: str | None) -> None:
        """All tasks as CSV."""
        self._save("/tasks", path, {"format": "csv", "rule": rule, "state": state})

    def _save(self, path: str, file: Path, parameters: dict[str, Any]) -> None:
        """An answer as it comes into a file (-: standard output)."""
        wanted = {k: v for k, v in parameters.items() if v is not None}
        try:
            with self._http.stream("GET", path, params=wanted) as answer:
                if not answer.is_success:
                    answer.read()
                    _decoded(answer)
                if str(file) == "-":
                    for part in answer.iter_bytes():
                        sys.stdout.buffer.write(part)
                    return
                with file.open("wb") as out:
                    for part in answer.iter_bytes():
                        out.write(part)
        except httpx.HTTPError as error:
            raise _unreachable(self._session.url, error) from error
        except OSError as error:
            raise Refused("input.file-write", path=str(file),
                          why=error.strerror or str(error)) from error

    def follow(self, task: int, patience_s: float = 60.0) -> Iterator[shapes.Progress]:
        """Each news of the task until it has ended. A server that goes away is waited for:
        the task goes on without us, and after the server's restart."""
        seen: int | None = None
        lost_at: float | None = None
        while True:
            try:
                news = cast(shapes.Progress, self.request(
                    "GET", f"/tasks/{task}/progress", timeout_s=_TIMEOUT_S + 10.0,
                    parameters={"wait": 20.0 if seen is not None else None, "seen": seen}))
            except HotspareError as error:
                now = time.monotonic()
                lost_at = lost_at or now
                if error.code != "client.unreachable" or now - lost_at > patience_s:
                    raise
                time.sleep(0.5)
                continue
            lost_at, seen = None, news["version"]
            yield news
            if news["state"] == "ended":
                return


def fetch_ca(url: str, fingerprint: str) -> str:
    """The server's CA (PEM), accepted only when its SHA-256 is ``fingerprint``."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE     # what comes is compared below before it is trusted
    try:
        answer = httpx.get(url.rstrip("/") + "/api/v1/ca", verify=context, trust_env=False,
                           timeout=_TIMEOUT_S)
        pem = answer.text
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error) from error
    except ValueError as error:
        raise GiveUp("client.answer", status=answer.status_code) from error
    if found != fingerprint.replace(":", "").strip().lower():
        raise Refused("client.fingerprint", found=found)
    return pem


def _seg(ref: str) -> str:
    try:
        return quote(ref, safe="")
    except UnicodeEncodeError as error:
        raise Refused("input.invalid", summary="an argument is no valid text") from error


def _trust(session: Session) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=session.ca)
    except OSError as error:        # ssl.SSLError is one
        raise Refused("input.file", path=str(session.ca),
                      why=error.strerror or "it is no certificate") from error


def _unreachable(url: str, error: Exception) -> HotspareError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Refused("client.untrusted", url=url, why=cause.verify_message)
        cause = cause.__cause__ or cause.__context__
    return GiveUp("client.unreachable", url=url, why=str(error) or type(error).__name__)


def _decoded(answer: httpx.Response) -> Any:
    if answer.status_code == 204:
        return None
    try:
        data = answer.json()
        if answer.is_success:
            return data
        error = HotspareError.from_dict(data["error"])
    except (ValueError, KeyError, TypeError):
        raise GiveUp("client.answer", status=answer.status_code) from None
    raise error
