"""What the API takes of schedules and bandwidth: the fields of the domain's classes, strictly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..domain.bandwidth import DAY_MINUTES, LARGEST, MOST_RANGES, Range
from ..domain.schedule import LARGEST_S, Schedule
from .base import Input, Named

Zone = Annotated[str, StringConstraints(min_length=1, max_length=64,
                                        pattern=r"^[A-Za-z0-9_+/-]+$")]
Time = Annotated[str, StringConstraints(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Weekdays = Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(max_length=7)]


class ScheduleInput(Input):
    kind: Literal["interval", "daily", "weekly", "monthly"]
    every_s: Annotated[int, Field(ge=1, le=LARGEST_S)] | None = Field(
        None, description="interval: seconds from start to start")
    at: Time | None = Field(
        None, description="HH:MM, local; of an interval's first start, null: at once")
    weekdays: Weekdays = Field([], description="weekly: 1 Monday … 7 Sunday")
    day: Annotated[int, Field(ge=1, le=31)] | None = Field(
        None, description="monthly; the last day of a shorter month")

    def to_domain(self) -> Schedule:
        return Schedule(self.kind, self.every_s, self.at, tuple(self.weekdays), self.day)


class BandwidthRange(Input):
    days: Weekdays
    start: Annotated[int, Field(ge=0, lt=DAY_MINUTES, description="minute of the day")]
    end: Annotated[int, Field(gt=0, le=DAY_MINUTES, description="later than start; exclusive")]
    limit: Annotated[int, Field(ge=0, le=LARGEST, description="bytes per second; 0: paused")]

    def to_domain(self) -> Range:
        return Range(tuple(self.days), self.start, self.end, self.limit)


BandwidthRanges = Annotated[list[BandwidthRange], Field(max_length=MOST_RANGES)]


class SchedulePreview(Input):
    schedule: ScheduleInput
    time_zone: Zone = "UTC"
    bandwidth: BandwidthRanges = Field([])
    source: Named | None = Field(
        None, description="the source platform, whose shortest interval holds")
