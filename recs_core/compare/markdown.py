"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from recs_core.compare import tables
from recs_core.compare.tables import Report, Table


def markdown(report: Report, figures: Sequence[tuple[str, str]] = ()) -> str:
    """The whole report; `figures`: (file, alt text)."""
    parts = [f"# {report['headline']}", "", f"`{report['command']}`", "", report["tier"]["why"] + ".", ""]
    parts += [f"* {'✓' if pair['agree'] else '✗'} {pair['line']}" for pair in report["pairs"]]
    parts += [f"* ✗ **{name}** failed: {problem}" for name, problem in tables.failures(report)]
    parts += [f"* {name} is installed but not compared: {problem}" for name, problem in report["skipped"].items()]
    if not report["oracle"]["ok"]:
        parts.append(f"* the oracle failed: {report['oracle']['problem']}")
    parts.append("")
    parts += [f"![{alt}]({file})\n" for file, alt in figures]
    shown = tables.recommendations(report)
    if shown:
        parts += [
            f"## The first {report['k']} for some queries",
            "",
            "✓ marks what the query took in the data it is evaluated on.",
            "",
        ]
        for table in shown:
            parts += [f"### {table.title}", "", *_table(table), ""]
    for table in tables.tables(report):
        parts += [f"## {table.title}", "", *([table.note, ""] if table.note else []), *_table(table), ""]
    for row in tables.finished(report):
        for side, text in row["native"].items():
            parts += [f"## {row['name']}: the {side} tower, as it prints itself", "", "```", text, "```", ""]
    return "\n".join(parts)


def _table(table: Table) -> list[str]:
    head = f"| {' | '.join(map(_cell, table.headers))} |"
    return [head, f"|{' --- |' * len(table.headers)}", *(f"| {' | '.join(map(_cell, row))} |" for row in table.rows)]


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
