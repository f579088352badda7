"""Texts of bandwidth ranges, of transfers that they pause, and of how data is moved."""

from . import Text

TEXTS: dict[str, Text] = {
    "bandwidth.ranges": Text(
        "{count} bandwidth ranges were given; {largest} are the most.",
        "Put ranges of equal limits together: one range may name several days.", 2),
    "bandwidth.days": Text(
        "A bandwidth range needs its days, each once.",
        "Give one or more days: 1 is Monday, 7 is Sunday.", 2),
    "bandwidth.times": Text(
        "A bandwidth range cannot last from minute {start} to minute {end} of a day.",
        "Give minutes from 0 to {largest}, the end later than the start; a range over midnight "
        "is two.", 2),
    "bandwidth.limit": Text(
        "{value} is no limit of bandwidth.",
        "Give bytes per second, from 0, which stops the transfer, to {largest}.", 2),
    "bandwidth.overlap": Text(
        "Two bandwidth ranges overlap at {time} on day {day} of the week.",
        "Give each time one limit only.", 2),
    "pause.rule": Text(
        "Paused until {until:time} by a bandwidth range of the rule. What was transferred is kept.",
        "To go on now, change the rule's bandwidth ranges."),
    "pause.machine": Text(
        "Paused until {until:time} by a bandwidth range of the DR machine. What was transferred is "
        "kept.",
        "To go on now, change the DR machine's bandwidth ranges."),
    "pause.rule-no-end": Text(
        "Paused without an end by the rule's bandwidth ranges. What was transferred is kept.",
        "To go on, change the rule's bandwidth ranges."),
    "pause.machine-no-end": Text(
        "Paused without an end by the DR machine's bandwidth ranges. What was transferred is kept.",
        "To go on, change the DR machine's bandwidth ranges."),
    "pause.over": Text("The pause is over, the task goes on."),
    "source.paused-too-long": Text(
        "The consistent instant at the source is not kept for so long a pause."),
    "tracking.off": Text(
        "Fast transfer is off: all that is in use is read and compared, and what differs is sent."),
    "transport.lan-free-unavailable": Text(
        "LAN-free transport is not available on this platform: the network transport is used."),
}
