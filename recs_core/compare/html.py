"""The report as one HTML file: no script, no network, light and dark, phone and desktop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as escaped
from importlib.resources import files

from recs_core.compare import tables
from recs_core.compare.figures import DARK, LIGHT, Figure, variables
from recs_core.compare.tables import Report, Table

MANY = 7
ONE_LINE = 26


def html(report: Report, drawn: Sequence[Figure]) -> str:
    """The whole page."""
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    dark = f"@media (prefers-color-scheme: dark) {{ {variables(DARK)} }}"
    title = escape(str(report["headline"]))
    body = "\n".join(
        [_head(report), _verdicts(report), _figures(drawn), _lists(report),
         *(_section(table) for table in tables.tables(report)), _printouts(report)]
    )  # fmt: skip
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n'
        f"<style>\n{variables(LIGHT)}\n{dark}\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def escape(text: str) -> str:
    """For HTML; the exponent of a number keeps to its line."""
    return re.sub(r"(?<=\de)-(?=\d)", "\u2212", escaped(text))


def _head(report: Report) -> str:
    model, data = report["model"], report["data"]
    about = (
        f"{data['source']}: {data['training_rows']:,} rows, "
        f"{data['queries']:,} queries × {data['candidates']:,} candidates · "
        f"{model['epochs']} epochs, {model['steps']:,} steps · {model['dtype']} · seed {model['seed']}"
    )
    verdict = "good" if report["agree"] else "bad"
    return (
        f'<header>\n<p class="kicker">recs compare</p>\n<h1 class="{verdict}">{escape(report["headline"])}</h1>\n'
        f"<p>{escape(about)}</p>\n<p class='command'><code>{escape(report['command'])}</code></p>\n</header>"
    )


def _verdicts(report: Report) -> str:
    lines = [(pair["agree"], pair["line"]) for pair in report["pairs"]]
    lines += [(False, f"{name} failed: {problem}") for name, problem in tables.failures(report)]
    if not report["oracle"]["ok"]:
        lines.append((False, f"the oracle failed: {report['oracle']['problem']}"))
    marks = {True: ("good", "✓"), False: ("bad", "✗")}
    items = "\n".join(
        '<li class="{}"><span class="mark">{}</span><span>{}</span></li>'.format(*marks[ok], escape(line))
        for ok, line in lines
    )
    skipped = "".join(
        f"<p class='note'>{escape(f'{name} is installed but not compared: {why}')}</p>"
        for name, why in report["skipped"].items()
    )
    tier = report["tier"]
    return (
        f'<section>\n<h2>Verdict</h2>\n<p class="note">Held to {escape(tier["name"])}: {escape(tier["why"])}.</p>\n'
        f'<ul class="verdicts">\n{items}\n</ul>\n{skipped}</section>'
    )


def _figures(drawn: Sequence[Figure]) -> str:
    return (
        "<section class='figures'>\n" + "\n".join(f"<figure>{figure.svg}</figure>" for figure in drawn) + "\n</section>"
    )


def _lists(report: Report) -> str:
    shown = tables.recommendations(report)
    if not shown:
        return ""
    parts = [
        f"<section>\n<h2>The first {report['k']}, side by side</h2>\n"
        "<p class='note'>Scores in parentheses; ✓ is what the query took in the data it is evaluated on.</p>"
    ]
    parts += [f"<h3>{escape(table.title)}</h3>\n{_table(table)}" for table in shown]
    return "\n".join(parts) + "\n</section>"


def _section(table: Table) -> str:
    note = f"<p class='note'>{escape(table.note)}</p>\n" if table.note else ""
    return f"<section>\n<h2>{escape(table.title)}</h2>\n{note}{_table(table)}\n</section>"


def _table(table: Table) -> str:
    """Scrolls sideways by itself where the screen is narrow, the first column staying."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.headers)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(map(_cell, row[1:]))}</tr>' for row in table.rows
    )
    kind = ' class="wide"' if len(table.headers) > MANY else "" if any(table.headers) else ' class="plain"'
    top = f"<thead><tr>{head}</tr></thead>" if any(table.headers) else ""
    label = escape(table.title)
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
    return f"{frame}<table{kind}>{top}<tbody>\n{rows}\n</tbody></table></div>"


def _cell(text: str) -> str:
    """Short ones keep to one line."""
    return f"<td{' class=short' if len(text) <= ONE_LINE else ''}>{escape(text)}</td>"


def _printouts(report: Report) -> str:
    done = tables.finished(report)
    if not done:
        return ""
    blocks = "\n".join(
        f"<details><summary>{escape(row['name'])}, {side} tower</summary><pre>{escape(text)}</pre></details>"
        for row in done
        for side, text in row["native"].items()
    )
    return f"<section>\n<h2>As each framework prints it</h2>\n{blocks}\n</section>"
