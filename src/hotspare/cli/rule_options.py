"""The settings of a rule as options, the same for rules, groups and templates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from ..domain.bandwidth import Range
from ..domain.bandwidth_text import describe
from .common import duration, errors, pairs, span
from .schedules import parse_bandwidth, parse_schedule


def given(
    *,
    source: Annotated[str | None, typer.Option(
        metavar="PLATFORM", help="Platform that the machine runs on.")] = None,
    target: Annotated[str | None, typer.Option(
        metavar="PLATFORM", help="Platform that gets the replica.")] = None,
    datacenter: Annotated[str | None, typer.Option(
        help="Datacenter at the target, where it has several.")] = None,
    host: Annotated[str | None, typer.Option(
        help="Host at the target, where it has several.")] = None,
    folder: Annotated[str | None, typer.Option(
        metavar="PATH", help="Folder of the replica, on vSphere.")] = None,
    pool: Annotated[str | None, typer.Option(
        metavar="PATH", help="Resource pool of the replica, on vSphere.")] = None,
    storage: Annotated[str | None, typer.Option(
        metavar="POOL", help="Storage at the target.")] = None,
    network: Annotated[list[str] | None, typer.Option(
        metavar="SOURCE=TARGET", help="Network of the replica; none: clear. Repeatable.")] = None,
    machine: Annotated[str | None, typer.Option(
        metavar="MACHINE", help="DR machine; the target platform's without.")] = None,
    temp_dir: Annotated[str | None, typer.Option(
        metavar="PATH", help="Temporary directory on the DR machine; its own without.")] = None,
    every: Annotated[str | None, typer.Option(
        "--every", "--interval", metavar="TIME",
        help="From start to start: 30s, 15m, 2h. Without a schedule: by hand only.")] = None,
    at: Annotated[str | None, typer.Option(
        metavar="HH:MM", help="With --every: the time of day of the first run.")] = None,
    daily: Annotated[str | None, typer.Option(
        metavar="HH:MM", help="Every day at this time.")] = None,
    weekly: Annotated[str | None, typer.Option(
        metavar="DAYS@HH:MM", help="For example mon,thu@02:30.")] = None,
    monthly: Annotated[str | None, typer.Option(
        metavar="DAY@HH:MM", help="A shorter month runs on its last day.")] = None,
    by_hand: Annotated[bool, typer.Option(
        "--by-hand", help="No schedule: a one-off rule.")] = False,
    zone: Annotated[str | None, typer.Option(
        metavar="ZONE", help="Time zone of schedule and bandwidth: Europe/Berlin.")] = None,
    retention: Annotated[int | None, typer.Option(help="Restore points to keep.")] = None,
    rpo: Annotated[str | None, typer.Option(
        metavar="TIME", help="Restore points are to be this close: 1h. none: no such wish.")
    ] = None,
    quiesce: Annotated[str | None, typer.Option(help="off, try or require.")] = None,
    fast_transfer: Annotated[bool | None, typer.Option(
        "--fast-transfer/--no-fast-transfer", help="Use changed-block tracking.")] = None,
    lan_free: Annotated[bool | None, typer.Option(
        "--lan-free/--no-lan-free", help="SAN transport where there is one.")] = None,
    devices: Annotated[str | None, typer.Option(
        help="Of a machine of another hypervisor: auto, virtio, same or sata.")] = None,
    delete_with: Annotated[bool | None, typer.Option(
        "--delete-with-rule/--keep-with-rule",
        help="What becomes of the replica when the rule is deleted.")] = None,
    bandwidth: Annotated[list[str] | None, typer.Option(
        metavar="RANGE", help="Bytes a second: 10MiB, or in a part of the week 'mon-fri "
        "09:00-18:00 10MiB'; 0 pauses; none: no limit. Repeatable.")] = None,
) -> dict[str, Any]:
    """What the options say, in the API's form; what they do not say is left out."""
    settings: dict[str, Any] = {
        "source": source, "target": target, "datacenter": datacenter, "host": host,
        "folder": folder, "pool": pool,
        "storage": storage, "machine": machine, "temp_dir": temp_dir, "time_zone": zone,
        "retention": retention, "quiesce": quiesce, "fast_transfer": fast_transfer,
        "lan_free": lan_free, "devices": devices, "delete_replica": delete_with,
        "networks": None if network is None else {} if network == ["none"] else pairs(network),
        "bandwidth": None if bandwidth is None else parse_bandwidth(bandwidth),
        "schedule": parse_schedule(every=every, at=at, daily=daily, weekly=weekly,
                                   monthly=monthly)}
    said = {k: v for k, v in settings.items() if v is not None}
    if by_hand:
        if "schedule" in said:
            raise typer.BadParameter("--by-hand is without a schedule")
        said["schedule"] = None
    if rpo is not None:
        said["rpo_s"] = None if rpo == "none" else duration(rpo)
    return said


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of :func:`given`; it gets what they say as ``settings``."""
    own = inspect.signature(command, eval_str=True).parameters
    options = inspect.signature(given, eval_str=True).parameters

    @wraps(command)
    def wrapped(**values: Any) -> None:
        with errors(values["as_json"]):
            settings = given(**{name: values.pop(name) for name in options})
        command(settings=settings, **values)

    merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
              for p in (*(p for n, p in own.items() if n != "settings"), *options.values())]
    merged.sort(key=lambda p: p.name == "as_json")
    wrapped.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in merged}
    return wrapped


def schedule_text(schedule: dict[str, Any] | None, zone: str) -> str:
    if schedule is None:
        return "by hand"
    match schedule["kind"]:
        case "interval":
            begin = f", first at {schedule['at']} {zone}" if schedule["at"] else ""
            return f"every {span(schedule['every_s'])}{begin}"
        case "daily":
            return f"daily at {schedule['at']} {zone}"
        case "weekly":
            names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
            days = ", ".join(names[d - 1] for d in sorted(schedule["weekdays"]))
            return f"{days} at {schedule['at']} {zone}"
        case _:
            return f"on day {schedule['day']} of the month at {schedule['at']} {zone}"


def bandwidth_text(ranges: list[dict[str, Any]]) -> str:
    return "; ".join(describe(Range(tuple(r["days"]), r["start"], r["end"], r["limit"]))
                     for r in ranges)
