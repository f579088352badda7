"""Channels of notifications. An address goes in and never comes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from ...domain.channels import Event
from ...domain.messages import Language
from ...services.notifications import ChannelView, TestView
from ...services.views import Page
from .. import inputs
from ..base import Input
from ..session import Caller, Here

router = APIRouter(tags=["notifications"])

Url = Annotated[str, StringConstraints(min_length=4, max_length=4096,
                                       pattern=r"^[^\x00-\x20\x7f]+$"),
                Field(description="an Apprise address; it is kept encrypted")]
Events = Annotated[list[Event], Field(min_length=1, max_length=16)]


class NewChannel(Input):
    name: inputs.Name
    url: Url
    events: Events | None = Field(None, description="null: all")
    language: Language = "en"
    enabled: bool = True


class ChangedChannel(Input):
    """What is null stays as it is."""

    name: inputs.Name | None = None
    url: Url | None = None
    events: Events | None = None
    language: Language | None = None
    enabled: bool | None = None


@router.get("/channels", operation_id="list_channels")
def channels(services: Here, caller: Caller, limit: inputs.Limit = 100,
             cursor: inputs.Cursor = None) -> Page[ChannelView]:
    return services.notifications.list(caller, limit, cursor)


@router.post("/channels", operation_id="add_channel", status_code=201)
def add(body: NewChannel, services: Here, caller: Caller) -> ChannelView:
    return services.notifications.add(
        caller, name=body.name, url=body.url, events=body.events, language=body.language,
        enabled=body.enabled)


@router.get("/channels/{ref}", operation_id="get_channel")
def get(ref: inputs.Ref, services: Here, caller: Caller) -> ChannelView:
    return services.notifications.get(caller, ref)


@router.patch("/channels/{ref}", operation_id="edit_channel")
def edit(ref: inputs.Ref, body: ChangedChannel, services: Here, caller: Caller) -> ChannelView:
    return services.notifications.edit(
        caller, ref, name=body.name, url=body.url, events=body.events, language=body.language,
        enabled=body.enabled)


@router.delete("/channels/{ref}", operation_id="remove_channel", status_code=204)
def remove(ref: inputs.Ref, services: Here, caller: Caller) -> None:
    services.notifications.remove(caller, ref)


@router.post("/channels/{ref}/test", operation_id="test_channel")
def test(ref: inputs.Ref, services: Here, caller: Caller) -> TestView:
    """Sends a message now, and answers whether the service took it."""
    return services.notifications.test(caller, ref)
