"""A DR machine's own file, ``/etc/hotspare/worker.toml``.

Each key is explained, with the manual's old name, in packaging/worker.toml.example.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..domain.bandwidth import Bandwidth
from ..domain.bandwidth_text import parse_all
from ..domain.errors import Refused
from ..domain.limits import Configured, bytes_of

DEFAULT: Final = Path("/etc/hotspare/worker.toml")
VARIABLE: Final = "HOTSPARE_WORKER_CONFIG"

_OLD: Final = {
    "bk_tsk_thd": "max_tasks",
    "i2vp_transbuffer": "transfer_buffer",
    "max_threadnum_perhost": "max_tasks_per_host",
}
"""The manual's names, by lower case."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says; what it does not say is None."""

    temp_dir: Path | None = None
    configured: Configured = field(default_factory=Configured)      # for the control server


def read(path: Path | None = None) -> Configuration:
    """The file that is named, by ``path`` or HOTSPARE_WORKER_CONFIG; else the usual one, which
    may be missing. Raises Refused ``config.*`` and what its values are refused for."""
    named = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    where = named or DEFAULT
    try:
        found = tomllib.loads(where.read_text())
    except FileNotFoundError as error:
        if named is None:
            return Configuration()
        raise Refused("config.unreadable", path=str(where), why=error.strerror) from error
    except OSError as error:
        raise Refused("config.unreadable", path=str(where), why=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused("config.syntax", path=str(where), why=str(error)) from error
    return _configuration(found, str(where))


def _configuration(found: dict[str, Any], path: str) -> Configuration:
    values: dict[str, Any] = {}
    for key, value in found.items():
        new = _OLD.get(key.lower())
        if new is not None:
            raise Refused("config.old-name", path=path, key=key, new=new)
        if key not in _KEYS:
            raise Refused("config.unknown", path=path, key=key, known=", ".join(_KEYS))
        try:
            values[key] = _KEYS[key](value)
        except (TypeError, ValueError) as error:
            raise Refused("config.value", path=path, key=key, value=repr(value)) from error
    bandwidth = None
    if {"time_zone", "bandwidth"} & values.keys():
        bandwidth = Bandwidth(values.get("time_zone", "UTC"), values.get("bandwidth", ()))
    return Configuration(values.get("temp_dir"), Configured(
        values.get("max_tasks"), values.get("transfer_buffer"), bandwidth,
        values.get("max_tasks_per_host")))


def _int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _directory(value: Any) -> Path:
    path = Path(_str(value))
    if not path.is_absolute():
        raise ValueError(value)
    return path


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(value)
    return [_str(item) for item in value]


_KEYS: Final[dict[str, Callable[[Any], Any]]] = {
    "max_tasks": _int,
    "transfer_buffer": lambda value: value if type(value) is int else bytes_of(_str(value)),
    "max_tasks_per_host": _int,
    "temp_dir": _directory,
    "time_zone": _str,
    "bandwidth": lambda value: parse_all(_texts(value)),
}
