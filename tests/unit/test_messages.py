"""Every code that the source raises or says has one text, and no text is without a use."""

from __future__ import annotations

import re
from pathlib import Path

import hotspare
from hotspare.domain.messages import areas, catalogue

_SOURCE = Path(hotspare.__file__).parent
_CODE = re.compile(r'"([a-z]+(?:[.-][a-z0-9-]+)+)"')
_RAISED = re.compile(
    r'\b(?:Retry|Reconnect|GiveUp|Refused|OutOfSpace|ForeignChange|Fenced|TrackingUnusable|'
    r'SealMissing|Stopped|InstantLost|Unknown|bench\.say|self\.say)\(\s*"([a-z0-9.-]+)"')
_NOT_ERRORS = re.compile(r"^verify")


def _sources() -> dict[Path, str]:
    return {path: path.read_text() for path in _SOURCE.rglob("*.py")
            if "messages" not in path.parts}


def test_every_raised_code_has_a_text() -> None:
    known = catalogue()
    missing = {f"{code} ({path.name})" for path, text in _sources().items()
               for code in _RAISED.findall(text)
               if code not in known and not _NOT_ERRORS.match(code)}
    assert not missing


def test_every_text_is_used() -> None:
    everything = "\n".join(_sources().values())
    # a code may be put together from a part and a rest: f"{side}.unreachable"
    used = set(_CODE.findall(everything))
    endings = set(re.findall(r'f"\{[a-z_.]+\}(\.[a-z-]+)"', everything))
    endings |= {f".{e}" for e in re.findall(r'f"[a-z]+\.\{', everything)}
    prefixes = set(re.findall(r'f"([a-z.]+[.-])\{', everything))
    unused = {code for code in catalogue() if code not in used
              and not any(code.endswith(e) for e in endings)
              and not any(code.startswith(p) for p in prefixes)}
    assert not unused


def test_no_code_has_two_texts() -> None:
    assert sum(map(len, areas().values())) == len(catalogue())
