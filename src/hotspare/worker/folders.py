"""Folders that rules left in the temporary directory when they moved to another machine."""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from ..domain.errors import HotspareError

logger = logging.getLogger(__name__)

_FOLDER = re.compile(r"hs-([0-9a-f]{8})")
_FIRST_S, _EVERY_S = 5.0, 600.0


def sweep(temp_dir: Path, foreign: Callable[[list[str]], list[str]]) -> list[str]:
    """Remove the folders of those rules that ``foreign`` says are not this machine's. A journal is
    of no use to anybody then: the new machine goes on from the last restore point."""
    rules = [m[1] for p in temp_dir.iterdir() if (m := _FOLDER.fullmatch(p.name))]
    gone = foreign(rules) if rules else []
    for rule in gone:
        shutil.rmtree(temp_dir / f"hs-{rule}", ignore_errors=True)
    return gone


def watch(temp_dir: Path, foreign: Callable[[list[str]], list[str]],
          closing: threading.Event) -> None:
    """Sweep now and then, in a thread of its own."""
    def loop() -> None:
        pause = _FIRST_S
        while not closing.wait(pause):
            try:
                for rule in sweep(temp_dir, foreign):
                    logger.info("the folder of rule %s was removed: it is another machine's", rule)
                pause = _EVERY_S
            except (HotspareError, OSError) as error:
                logger.debug("sweeping the temporary directory: %s", error)
                pause = 60.0

    threading.Thread(target=loop, name="folders", daemon=True).start()
