"""`recs monitor`: what a service's log tells of its bundle, one line per day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.monitor import Day, Report
    from recs_core.monitor.drift import Drift


def monitor(
    bundle: Annotated[Path, typer.Argument(help="The bundle that was served.")],
    requests: Annotated[Path, typer.Option(help="What recs serve has logged: a line of JSON each.")],
    as_json: AsJson = False,
) -> None:
    """Unknown queries, drift of scores and of popularity against the bundle's own queries, and coverage, by day."""
    from recs_core.monitor import monitor

    report = monitor(bundle, requests)
    if as_json:
        print_json(report.as_json())
        return
    print_table(("day", "queries", "unknown", "coverage", "scores", "popularity"), [_row(day) for day in report.days])
    for remark in _remarks(report, requests):
        typer.echo(remark)


def _row(day: Day) -> tuple[str | None, ...]:
    shares = (None if share is None else f"{share:.1%}" for share in (day.unknown_share, day.coverage))
    return day.day, f"{day.queries:,}", *shares, _drift(day.scores), _drift(day.popularity)


def _drift(drift: Drift | None) -> str | None:
    return None if drift is None else f"{drift.psi:.3f} {drift.verdict}"


def _remarks(report: Report, requests: Path) -> list[str]:
    said = []
    if report.malformed:
        count, first = f"{report.malformed:,}", report.first_malformed
        said.append(f"{requests}: lines that cannot be read are left out: {count}, the first is line {first}")
    if report.others:
        others = ", ".join(f"{digest} ({count:,})" for digest, count in sorted(report.others.items()))
        said.append(f"{requests}: requests that other bundles answered are left out: {others}")
    if not report.answers:
        said.append(f"{requests}: holds no answers, of which drift and coverage are told; recs serve --log-answers")
    return said
