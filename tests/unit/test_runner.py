"""The step runner: what is recorded is not done again, also after kill -9 and an upgrade."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

# A process of its own each time: the runner keeps global state, and it is killed.
_PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from hotspare.worker.runner import DbosRunner

directory, mode = Path(sys.argv[1]), sys.argv[2]
log = directory / "log"

def note(text):
    with log.open("a") as out:
        out.write(text + "\\n")

def body(argument, record):
    {comment}
    first = record("first", lambda: (note("first"), {{"value": argument["value"] + 1}})[1])
    def second():
        note("second")
        if mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "full":
            import resource, threading
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
            def room():
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
                note("room")
            threading.Timer(3.0, room).start()
        return {{"value": first["value"] * 10}}
    result = record("second", second)
    note("end %d" % result["value"])

runner = DbosRunner(directory / "state", body)
if mode != "recover":
    runner.start("task-1-e1", {{"value": 4}})
    runner.start("task-1-e1", {{"value": 4}})
end = time.monotonic() + 20
while time.monotonic() < end:
    if log.exists() and "end" in log.read_text():
        time.sleep(0.5)
        break
    time.sleep(0.05)
note("ready")
if mode == "stay":
    time.sleep(60)
os._exit(0)
"""


def _run(directory: Path, mode: str, comment: str = "pass") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _PROGRAM.format(comment=comment),
                             str(directory), mode], text=True, stderr=subprocess.PIPE)


def _log(directory: Path) -> list[str]:
    return (directory / "log").read_text().split("\n")[:-1]


def test_steps_are_recorded_and_ids_begin_once(tmp_path: Path) -> None:
    process = _run(tmp_path, "plain")
    assert process.wait(60) == 0, process.stderr
    assert _log(tmp_path) == ["first", "second", "end 50", "ready"]


def test_killed_work_goes_on_at_the_step_that_was_not_recorded(tmp_path: Path) -> None:
    assert _run(tmp_path, "die").wait(60) == -signal.SIGKILL
    assert _log(tmp_path) == ["first", "second"]
    # another source text stands for an upgrade: pending work must be recovered all the same
    assert _run(tmp_path, "recover", comment="note('new version')").wait(60) == 0
    assert _log(tmp_path) == ["first", "second", "new version", "second", "end 50", "ready"]


def test_its_file_is_durable_json_and_ended_runs_are_pruned(tmp_path: Path) -> None:
    assert _run(tmp_path, "plain").wait(60) == 0
    path = tmp_path / "state" / "steps.sqlite"
    assert path.stat().st_mode & 0o077 == 0
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        rows = database.execute("SELECT output FROM operation_outputs").fetchall()
        assert [json.loads(output) for (output,) in rows] == [{"value": 5}, {"value": 50}]
    (tmp_path / "log").unlink()
    assert _run(tmp_path, "die").wait(60) in (0, -signal.SIGKILL)
    with sqlite3.connect(path) as database:
        left = database.execute("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"
                                ).fetchone()
    assert left == (0,), "what ended before is deleted at the next start"


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = _run(tmp_path, "stay")
    try:
        end = time.monotonic() + 30
        while not (tmp_path / "log").exists() or "ready" not in _log(tmp_path):
            assert time.monotonic() < end
            time.sleep(0.05)
        second = _run(tmp_path, "plain")
        _, errors = second.communicate(timeout=60)
        assert second.returncode != 0
        assert "Another DR machine runs" in errors
    finally:
        first.kill()
        first.wait()


def test_a_run_that_was_recovered_often_is_recovered_again(tmp_path: Path) -> None:
    """DBOS gives a run up after a number of recoveries: a machine that is restarted every minute
    for a week must not come to it."""
    assert _run(tmp_path, "die").wait(60) == -signal.SIGKILL
    with sqlite3.connect(tmp_path / "state" / "steps.sqlite") as database:
        changed = database.execute("UPDATE workflow_status SET recovery_attempts = 20000")
        assert changed.rowcount == 1
    assert _run(tmp_path, "recover").wait(60) == 0
    assert _log(tmp_path) == ["first", "second", "second", "end 50", "ready"]


def test_each_step_is_on_the_disk_when_it_is_recorded(tmp_path: Path) -> None:
    probe = ("from dbos._dbos import _get_dbos_instance as one; "
             "c = one()._sys_db.engine.connect(); "
             "note('sync %d' % c.exec_driver_sql('PRAGMA synchronous').scalar()); c.close()")
    assert _run(tmp_path, "plain", comment=probe).wait(60) == 0
    assert "sync 2" in _log(tmp_path), "2 is FULL: under WAL, NORMAL loses steps at a power loss"


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    """DBOS gives the run up, and the task would never end."""
    assert _run(tmp_path, "full").wait(60) == 0
    assert _log(tmp_path) == ["first", "second", "room", "end 50", "ready"]
