"""The log of a rule: paged both ways, by level, as a file, and in the reader's language."""

from __future__ import annotations

import csv
import io
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from hotspare.domain.errors import Refused
from hotspare.domain.text import plain
from hotspare.services.exports import csv_file
from hotspare.store import schema
from unit.service_rig import ADMIN, VIEWER, Served, prepared, rig, served, wait_until

PASSWORD = "long enough"
LINES = 2500                # more than one part of a download


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = prepared(tmp_path_factory.mktemp("log"))
    with rig(folder) as made:
        made.services.users.add(ADMIN, "vera", PASSWORD, "viewer")
        rule = made.rule("规则 一")
        with made.services.context.change() as change:
            change.conn.execute(sa.delete(schema.log))
            for n in range(LINES):
                level = "error" if n % 1000 == 7 else "warning" if n % 100 == 7 else "info"
                change.conn.execute(sa.insert(schema.log).values(
                    at=1_800_000_000.0 + n, level=level, code="replicate.published",
                    fields={"point": n}, rule=rule))
            change.log("error", "vm.not-found", {"reason": '=HYPERLINK("x")\x1b[2J\nnext'},
                       rule=rule)
        with served(made) as it:
            yield it


@pytest.fixture(scope="module")
def raw(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30.0, trust_env=False,
                      verify=ssl.create_default_context(cafile=str(server.ca))) as http:
        token = http.post("/login", json={"user": "vera", "password": PASSWORD}).json()["token"]
        http.headers["Authorization"] = f"Bearer {token}"
        yield http


def all_of(raw: httpx.Client, **wanted: Any) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = raw.get("/rules/规则 一/log", params={
            "limit": 500, **wanted} | ({"cursor": cursor} if cursor else {})).json()
        lines += page["items"]
        cursor = page["next"]
        if cursor is None:
            return lines


def test_pages_go_both_ways_and_by_level(raw: httpx.Client) -> None:
    oldest = all_of(raw)
    assert len(oldest) == LINES + 1
    assert all_of(raw, order="newest") == oldest[::-1]
    warnings = all_of(raw, level="warning", order="newest")
    assert warnings == [x for x in oldest[::-1] if x["level"] != "info"]
    assert [x["fields"].get("point") for x in all_of(raw, level="error")] == [7, 1007, 2007, None]
    for wrong in ({"order": "x"}, {"level": "debug"}):
        assert raw.get("/rules/规则 一/log", params=wrong).status_code == 422


def test_a_page_after_the_last_finds_what_was_written_since(server: Served) -> None:
    logs, rule = server.rig.services.logs, server.rig.rule("later", "web1")
    first = logs.page(VIEWER, rule=rule)
    with server.rig.services.context.change() as change:
        change.log("info", "task.ended", {"outcome": "ok"}, rule=rule)
    [line] = logs.page(VIEWER, rule=rule, cursor=str(first.items[-1].id)).items
    assert line.code == "task.ended"


def test_as_text_in_both_languages(raw: httpx.Client) -> None:
    answer = raw.get("/rules/规则 一/log/download", params={"language": "zh-CN"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''%E8%A7%84%E5%88%99%20%E4%B8%80.txt")
    lines = answer.text.splitlines()
    assert len(lines) == LINES + 1
    assert lines[7] == ("2027-01-15T08:00:07Z ERROR   恢复点 7 已发布。 [replicate.published]")
    english = raw.get("/rules/规则 一/log/download", params={"level": "error"}).text
    assert "ERROR   Restore point 7 is published. [replicate.published]" in english
    # what a stranger's machine is named cannot begin a line, nor drive a terminal
    assert "\x1b" not in english and len(english.splitlines()) == 4


def test_as_csv(raw: httpx.Client) -> None:
    answer = raw.get("/rules/规则 一/log/download", params={"format": "csv"},
                     headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert answer.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert len(rows) == LINES + 1
    assert rows[3]["message"] == "恢复点 3 已发布。"
    assert (rows[3]["time"], rows[3]["level"]) == ("2027-01-15T08:00:03Z", "info")
    assert json.loads(rows[3]["parameters"]) == {"point": 3}


def test_a_cell_is_never_a_formula() -> None:
    cells = ["=1+1", "+x", "-x", "@x", "\tx", "\r=x", "x=1", "", 5, -5, 1.23456, None]
    text = "".join(csv_file(["a"], [[[cell] for cell in cells]])).removeprefix("\ufeff")
    assert [row[0] if row else "" for row in csv.reader(io.StringIO(text))] == [
        "a", "'=1+1", "'+x", "'-x", "'@x", " x", " =x", "x=1", "", "5", "-5", "1.235", ""]
    assert plain("a\u202eb\x00c\n规则") == "a b c 规则"


def test_what_is_refused_is_refused_before_the_file(raw: httpx.Client, server: Served) -> None:
    for path, status in (("/rules/none/log/download", 404),
                         ("/rules/规则 一/log/download?format=pdf", 422),
                         ("/rules/规则 一/log/download?language=de", 422)):
        answer = raw.get(path)
        assert (answer.status_code, "error" in answer.json()) == (status, True)
    answer = raw.get("/rules/none/log/download", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401


def test_a_download_holds_no_transaction_while_it_is_read(server: Served) -> None:
    """A reader that stops half-way keeps neither writers nor SQLite's log from going on."""
    parts = server.rig.services.logs.file(VIEWER, "规则 一", "txt", "en")
    assert len(next(parts).splitlines()) == 1000
    engine = server.rig.services.context.store.engine
    # The server's own threads take a connection now and then and give it back; a download that
    # held one would keep it until the next part is asked for, which is after this.
    wait_until(lambda: engine.pool.checkedout() == 0)          # type: ignore[attr-defined]
    server.rig.services.rules.get(VIEWER, "规则 一")
    assert sum(len(p.splitlines()) for p in parts) == LINES + 1 - 1000


# --- languages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("accept", "told", "named"), [
    ("zh-CN,zh;q=0.9,en;q=0.5", "没有规则 nowhere。", "zh-CN"),
    ("en-US,en;q=0.9", "There is no rule nowhere.", "en"),
    ("fr", "There is no rule nowhere.", "en"),
    ("", "There is no rule nowhere.", "en")])
def test_errors_are_told_in_the_language_asked_for(raw: httpx.Client, accept: str, told: str,
                                                   named: str) -> None:
    answer = raw.get("/rules/nowhere", headers={"Accept-Language": accept})
    assert answer.json()["error"]["message"] == told
    assert answer.headers["content-language"] == named


def test_so_are_bad_input_and_what_is_refused_at_the_door(raw: httpx.Client) -> None:
    chinese = {"Accept-Language": "zh"}
    assert "请求中有不正确的字段" in raw.get(
        "/rules", params={"limit": 0}, headers=chinese).json()["error"]["message"]
    assert raw.get("/rules", headers=chinese | {"Authorization": "x"}).json()["error"][
        "message"].startswith("您尚未登录")
    large = raw.post("/login", content=b"x" * (1024 * 1024 + 1), headers=chinese)
    assert "请求超过" in large.json()["error"]["message"]


def test_one_reader_s_language_is_not_another_s(raw: httpx.Client) -> None:
    for accept, word in (("zh", "已发布"), ("en", "is published")) * 3:
        page = raw.get("/rules/规则 一/log", params={"limit": 1},
                       headers={"Accept-Language": accept}).json()
        assert word in page["items"][0]["message"]


def test_a_stored_error_is_told_in_the_language_asked_for(tmp_path: Path) -> None:
    """Whatever it was stored in."""
    with rig(tmp_path) as made:
        made.platforms()
        rule = made.rule()
        made.player.fail["replicate"] = Refused("storage.busy", storage="pool")
        made.run(rule)
        made.services.users.add(ADMIN, "vera", PASSWORD, "viewer")
        with served(made) as it, httpx.Client(
                base_url=f"{it.url}/api/v1", trust_env=False, timeout=30.0,
                verify=ssl.create_default_context(cafile=str(it.ca)),
                headers={"Accept-Language": "zh-CN"}) as http:
            token = http.post("/login", json={"user": "vera", "password": PASSWORD}
                              ).json()["token"]
            http.headers["Authorization"] = f"Bearer {token}"
            [shown] = http.get("/rules").json()["items"]
            [task] = http.get("/tasks?rule=r1").json()["items"]
    assert shown["last_error"]["message"] == "存储池 pool 正忙于其他客户端的卷。"
    assert task["error"]["message"] == shown["last_error"]["message"]


# --- the command line ----------------------------------------------------------------------------


def cli(server: Served, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    services = server.rig.services
    known = {"HOTSPARE_SERVER": server.url, "HOTSPARE_CA": str(server.ca), "PATH": os.environ[
        "PATH"], "HOTSPARE_TOKEN": services.users.local_token(), "PYTHONUTF8": "1"}
    return subprocess.run([sys.executable, "-m", "hotspare.cli.main", *arguments], text=True,
                          capture_output=True, timeout=60, check=False, env=known | environment)


def test_the_command_line_downloads_and_speaks(server: Served, tmp_path: Path) -> None:
    table, text = tmp_path / "log.csv", tmp_path / "log.txt"
    assert cli(server, "--language", "zh-CN", "rule", "log", "规则 一", "--download",
               str(table)).returncode == 0
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8-sig"))))
    assert rows[0]["message"] == "恢复点 0 已发布。" and len(rows) == LINES + 1
    assert cli(server, "rule", "log", "规则 一", "--download", str(text)).returncode == 0
    assert "Restore point 0 is published." in text.read_text()
    out = cli(server, "rule", "log", "规则 一", "--download", "-", "--level", "error").stdout
    assert len(out.splitlines()) == 4
    newest = cli(server, "rule", "log", "规则 一", "--newest", "2", "--level", "warning",
                 LANG="zh_CN.UTF-8").stdout.splitlines()
    assert "没有这个虚机" in newest[0] and "恢复点 2407 已发布。" in newest[1]
    wrong = cli(server, "rule", "show", "nowhere", LANG="zh_CN.UTF-8")
    assert (wrong.returncode, "没有规则 nowhere" in wrong.stderr) == (3, True)
    wrong = cli(server, "rule", "show", "nowhere", LANG="zh_CN.UTF-8", LC_ALL="C.UTF-8")
    assert "There is no rule nowhere." in wrong.stderr
    unwritable = cli(server, "rule", "log", "规则 一", "--download", "/proc/none/x")
    assert unwritable.returncode == 2
