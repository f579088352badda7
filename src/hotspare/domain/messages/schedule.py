"""Texts of when a rule runs."""

from . import Text

TEXTS: dict[str, Text] = {
    "schedule.bandwidth": Text(
        "The next run waits, because the bandwidth of the rule or of its DR machine is 0 now.",
        "It begins when the range ends. To run earlier, change the bandwidth ranges.", 4),
    "schedule.zone": Text(
        "There is no time zone {zone!r}.",
        "Use a name of the IANA database, for example Europe/Berlin, Asia/Shanghai or UTC.", 2),
    "schedule.field": Text(
        "A schedule of kind {kind} has no {field}.",
        "Leave {field} out, or choose the kind that has it.", 2),
    "schedule.interval": Text(
        "The interval from one start to the next has to be between {smallest} and {largest} "
        "seconds.",
        "Give such an interval; the shortest is what the source platform can.", 2),
    "schedule.no-start-time": Text(
        "A {kind} schedule needs its start time.", "Give it as HH:MM, for example 02:30.", 2),
    "schedule.time": Text(
        "{value!r} is no start time.", "Give it as HH:MM from 00:00 to 23:59.", 2),
    "schedule.weekdays": Text(
        "A weekly schedule needs its days, each once.",
        "Give one or more days: 1 is Monday, 7 is Sunday.", 2),
    "schedule.day": Text(
        "A monthly schedule needs its day, 1 to 31.",
        "Give the day of the month; a month without it runs on its last day.", 2),
}
