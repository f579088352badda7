"""What the API takes. Every field has a type and a limit; an unknown field is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LARGEST_ID = 2**53
_PLAIN = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PLAIN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_PLAIN)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=16384)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=256)]
OptionKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
OptionValue = Annotated[str, StringConstraints(max_length=1024, pattern=_PLAIN)]

Ref = Annotated[str, Path(min_length=1, max_length=128, pattern=_PLAIN,
                          description="an id or a name")]
TaskId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=500, description="largest number of items")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,15}$",
                                     description="`next` of the page before")]


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Login(Input):
    user: Name
    password: Password


class NewUser(Input):
    name: Name
    password: Password
    role: Literal["viewer", "operator", "administrator"]


class NewPassword(Input):
    password: Password


class NewPlatform(Input):
    name: Name
    kind: Name = "libvirt"
    uri: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_PLAIN)]
    options: Annotated[dict[OptionKey, OptionValue], Field(max_length=32)] = {}
    secret: Secret | None = None
    machine: Name | None = None


class CreateRule(Input):
    name: Name
    source: Text
    vm: Text
    target: Text
    storage: Text
    replica_name: Name | None = None
    networks: Annotated[dict[Text, Text], Field(max_length=64)] = {}
    retention: Annotated[int, Field(ge=1, le=100)] = 7
    quiesce: Literal["off", "try", "require"] = "try"
    interval_s: Annotated[int, Field(ge=10, le=31 * 24 * 3600)] | None = Field(
        None, description="seconds from start to start; null: a one-off rule")
    bandwidth: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        None, description="bytes per second; 0: paused; null: no limit")


class Failover(Input):
    point: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="null: the newest")
