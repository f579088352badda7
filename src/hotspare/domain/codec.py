"""Dataclasses to JSON and back, strictly: an unknown field, a missing one or a wrong type raises.

Used for what is written beside the replica and read again years later, perhaps after the
database is lost, so a guess is never made.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


_SCALARS = frozenset({str, int, float, bool, type(None)})


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _fields(cls: type) -> dict[str, bool] | None:
    """Of a dataclass: its fields, and whether each has to be given. Looked at for every object that
    crosses the link, so once a class."""
    return {f.name: f.default is f.default_factory is dataclasses.MISSING
            for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else None


def encode(value: Any) -> Any:
    """JSON-ready form of a dataclass, tuple, list, dict or scalar."""
    kind: type = type(value)
    if kind in _SCALARS:
        return value
    fields = _fields(kind)
    if fields is not None:
        return {name: encode(getattr(value, name)) for name in fields}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    return value


def decode(cls: type[T], data: Any) -> T:
    """The dataclass ``cls`` from its JSON form. Raises ``ValueError`` naming the field."""
    result: T = _decode(cls, data, cls.__name__)
    return result


def decode_known(cls: type[T], data: Any) -> T:
    """As :func:`decode`, but fields that this version does not know are left out: for what a
    newer program of ours says, whose new fields always have a default."""
    return decode(cls, _known(cls, data))


def _known(hint: Any, data: Any) -> Any:
    if hint is Any or type(data) in _SCALARS:
        return data
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        arms = [a for a in get_args(hint) if dataclasses.is_dataclass(a)]
        return _known(arms[0], data) if len(arms) == 1 else data
    if origin is tuple and isinstance(data, list):
        return [_known(get_args(hint)[0], v) for v in data]
    if origin in (dict, Mapping) and isinstance(data, dict):
        return {k: _known(get_args(hint)[1], v) for k, v in data.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(data, dict):
        return {name: _known(inner, data[name])
                for name, inner in _hints(hint).items() if name in data}
    return data


def _decode(hint: Any, data: Any, where: str) -> Any:
    if hint is Any or type(data) is hint:
        return data
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(hint, data, where)
    if origin is Literal:
        if data not in get_args(hint):
            raise ValueError(f"{where}: {data!r} is none of {get_args(hint)}")
        return data
    if origin is tuple:
        if not isinstance(data, list):
            raise ValueError(f"{where}: a list is expected, found {type(data).__name__}")
        item = get_args(hint)[0]
        return tuple(_decode(item, v, f"{where}[{i}]") for i, v in enumerate(data))
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            raise ValueError(f"{where}: an object is expected, found {type(data).__name__}")
        item = get_args(hint)[1]
        return {k: _decode(item, v, f"{where}.{k}") for k, v in data.items()}
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(hint, data, where)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise ValueError(f"{where}: {hint} is expected, found {data!r:.80}")
    return data


def _decode_union(hint: Any, data: Any, where: str) -> Any:
    args = get_args(hint)
    if data is None and type(None) in args:
        return None
    last: ValueError | None = None
    for arm in args:
        if arm is type(None):
            continue
        try:
            return _decode(arm, data, where)
        except ValueError as error:
            last = error
    raise last or ValueError(where)


def _decode_dataclass(hint: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: an object is expected, found {type(data).__name__}")
    hints, fields = _hints(hint), _fields(hint) or {}
    unknown = data.keys() - fields.keys()
    if unknown:
        raise ValueError(f"{where}: unknown fields {sorted(unknown)}")
    values: dict[str, Any] = {}
    for name, needed in fields.items():
        if name in data:
            values[name] = _decode(hints[name], data[name], f"{where}.{name}")
        elif needed:
            raise ValueError(f"{where}: the field {name} is missing")
    return hint(**values)
