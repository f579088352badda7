"""hotspare statistics; rule, group statistics; metrics; settings history"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Json, ago, answer, connected, facts, size, span, table, when

if TYPE_CHECKING:
    from ..client import shapes

metrics = typer.Typer(help="What Prometheus scrapes.", no_args_is_help=True)

Days = Annotated[int, typer.Option(min=1, max=1098, help="How many days, today with them.")]
Csv = Annotated[Path | None, typer.Option(
    "--csv", metavar="FILE", help="Write the days as CSV into this file (-: standard output).")]


def of_rule(
    name: Annotated[str, typer.Argument(metavar="RULE", help="Its name or id.")],
    days: Days = 30, csv: Csv = None, as_json: Json = False,
) -> None:
    """How well a rule did: runs, bytes, its recovery point objective, restore points."""
    with connected(as_json) as client:
        if csv is not None:
            client.save_statistics(csv, days, rule=name)
            return
        answer(client.rule_statistics(name, days), as_json, _show_rule)


def of_group(
    name: Annotated[str, typer.Argument(metavar="GROUP", help="Its name or id.")],
    days: Days = 30, csv: Csv = None, as_json: Json = False,
) -> None:
    """How well the rules of a group did, together."""
    with connected(as_json) as client:
        if csv is not None:
            client.save_statistics(csv, days, group=name)
            return
        answer(client.statistics(days, group=name), as_json, _show_scope)


def of_all(days: Days = 30, csv: Csv = None, as_json: Json = False) -> None:
    """How well all rules did, together."""
    with connected(as_json) as client:
        if csv is not None:
            client.save_statistics(csv, days)
            return
        answer(client.statistics(days), as_json, _show_scope)


@metrics.command("token")
def token(as_json: Json = False) -> None:
    """Make a token for the scraper: it may look at everything, change nothing, and has no end.
    The one that was made before ends."""
    with connected(as_json) as client:
        answer(client.request("POST", "/metrics/token"), as_json,
               lambda made: typer.echo(made["token"]))


def history(
    task_days: Annotated[int | None, typer.Option(
        help="Days that tasks and log lines are kept.")] = None,
    least_tasks: Annotated[int | None, typer.Option(
        help="So many of each rule stay, however old.")] = None,
    audit_days: Annotated[int | None, typer.Option(
        help="Days that it is kept who changed what.")] = None,
    statistics_days: Annotated[int | None, typer.Option(
        help="Days that the sums of each day are kept.")] = None,
    as_json: Json = False,
) -> None:
    """How long history is kept; with an option, change it."""
    given = {"task_days": task_days, "least_tasks": least_tasks, "audit_days": audit_days,
             "statistics_days": statistics_days}
    with connected(as_json) as client:
        found = (client.request("GET", "/settings/history")
                 if all(value is None for value in given.values())
                 else client.request("PATCH", "/settings/history", body=given))
        answer(found, as_json, lambda kept: facts([(k, str(v)) for k, v in kept.items()]))


def add_to(app: typer.Typer, rule: typer.Typer, group: typer.Typer,
           settings: typer.Typer) -> None:
    app.command("statistics")(of_all)
    rule.command("statistics")(of_rule)
    group.command("statistics")(of_group)
    settings.command("history")(history)
    app.add_typer(metrics, name="metrics")


# --- text for people -----------------------------------------------------------------------------


def _show_rule(s: shapes.RuleStatistics) -> None:
    rpo = s["rpo"]
    kept = {True: "kept", False: f"missed since {when(rpo['violated_at'])}", None: "-"}
    facts([
        ("rule", s["name"]), ("since", f"{s['since']} ({s['days']} days)"),
        ("RPO", f"{kept[rpo['kept']]}; newest point is {span(rpo['age_s'])} old, "
                f"{span(rpo['target_s'])} allowed"
                + (" (named by the rule)" if rpo["named"] else "")),
        ("points", f"{s['points']}, holding {size(s['stored'])}"
                   + (f"; newest {s['latest_point']}, {ago(s['latest_point_at'])}, of "
                      f"{size(s['size'])}" if s["latest_point"] else "")),
        ("unexpected full copies", f"{s['full_runs']} in a row" if s["full_runs"] else ""),
        *_total(s["total"])])
    _days(s["by_day"])


def _show_scope(s: shapes.ScopeStatistics) -> None:
    rpo = s["rpo"]
    facts([
        ("group", s["name"] or ""), ("since", f"{s['since']} ({s['days']} days)"),
        ("rules", f"{s['rules']}: " + ", ".join(
            f"{count} {state}" for state, count in sorted(s["states"].items()))),
        ("RPO", f"{rpo['watched'] - rpo['violated']} of {rpo['watched']} kept; oldest newest "
                f"point {span(rpo['oldest_age_s'])}"),
        ("without a point", str(rpo["unprotected"] or "")),
        ("points", f"{s['points']}, holding {size(s['stored'])}"),
        *((f"  {x['platform_name']} {x['storage']}",
           f"{x['rules']} rules, {x['points']} points, {size(x['stored'])} held, "
           f"{size(x['free'])} free") for x in s["storages"]),
        *_total(s["total"])])
    _days(s["by_day"])


def _total(t: shapes.Total) -> list[tuple[str, str]]:
    ratio = "-" if t["success_ratio"] is None else f"{100 * t['success_ratio']:.1f} %"
    return [
        ("runs", f"{t['runs']}: {t['ok']} ok, {t['warning']} with warnings, {t['failed']} failed, "
                 f"{t['stopped']} stopped; {ratio} good"),
        ("took", f"{span(t['mean_seconds'])} a run"),
        ("bytes", f"{size(t['bytes_moved'])} moved ({size(t['bytes_a_day'])} a day), "
                  f"{size(t['bytes_read'])} read, {size(t['bytes_zero'])} zero, "
                  f"{size(t['bytes_queried'])} named as changed"),
        ("whole disks read", f"in {t['full']} runs" if t["full"] else ""),
        ("retries", str(t["retries"] or "")),
        ("RPO missed", f"{t['violations']} times" if t["violations"] else ""),
        ("longest gap", span(t["longest_gap_s"]) if t["longest_gap_s"] else "")]


def _days(by_day: list[shapes.Day]) -> None:
    typer.echo("")
    table(["DAY", "OK", "WARNING", "FAILED", "STOPPED", "MOVED", "READ", "TIME", "RPO MISSED",
           "LONGEST GAP"],
          [[d["day"], *(str(d[k]) for k in ("ok", "warning", "failed", "stopped")),
            size(d["bytes_moved"]), size(d["bytes_read"]), span(d["seconds"]),
            str(d["violations"]), span(d["longest_gap_s"])] for d in by_day],
          "Nothing ran in these days.")
