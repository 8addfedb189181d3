"""`recs data`: which data sets there are, and what is wrong with one before anything is trained on it."""

from __future__ import annotations

import typer

from recs_core.cli import options
from recs_core.cli.output import AsJson, print_json, print_table

app = typer.Typer(help="List data sets; check one before training.", no_args_is_help=True)


@app.command("list")
def list_data(as_json: AsJson = False) -> None:
    """Name the data sets that come with the library or that it knows how to read."""
    from recs_core import datasets

    rows = [(name, datasets.summary(name)) for name in datasets.names()]
    if as_json:
        print_json(dict(rows))
        return
    print_table(("data set", "what it is"), rows)


@app.command()
def check(
    source: options.Source,
    query: options.Query = None,
    candidate: options.Candidate = None,
    timestamp: options.Timestamp = None,
    unit: options.Unit = None,
    queries: options.Queries = None,
    candidates: options.Candidates = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    null: options.Null = None,
    lists: options.Lists = None,
    path: options.Path = None,
    min_per_query: options.MinPerQuery = None,
    min_per_candidate: options.MinPerCandidate = None,
    split: options.Split = None,
    at: options.At = None,
    test: options.Test = None,
    as_json: AsJson = False,
) -> None:
    """Show duplicates, unseen ids, time leaks and the share of cold candidates."""
    from recs_core.data.audit import audit
    from recs_core.experiment import cut, load_data

    spec = options.data_spec(
        source,
        split,
        query=query,
        candidate=candidate,
        timestamp=timestamp,
        unit=unit,
        queries=queries,
        candidates=candidates,
        encoding=encoding,
        delimiter=delimiter,
        null_values=null,
        lists=lists,
        path=path,
        min_per_query=min_per_query,
        min_per_candidate=min_per_candidate,
        at=at,
        test=test,
        known_only=False,
    )
    data = load_data(spec)
    parts = cut(data, spec, seed=42)
    report = audit(parts.train, parts.test)
    if as_json:
        print_json(report.to_json())
        return
    typer.echo(repr(data))
    rows = [
        ("training rows", f"{report.rows:,}"),
        ("repeat an earlier pair", f"{report.duplicate_rows:,}"),
        ("distinct pairs of all possible", f"{report.density:.3%}"),
        ("from, to", f"{report.first_day or '?'}, {report.last_day or '?'}"),
    ]
    for side in (report.queries, report.candidates):
        rows.append((f"{side.name}: ids, without a row, with one", f"{side.ids:,}, {side.cold:,}, {side.once:,}"))
        rows.append((f"{side.name}: rows held by the top 1 %", f"{side.top_share:.1%}"))
    print_table(("", ""), rows)
    if parts.leakage:
        typer.echo(parts.leakage)
    for remark in report.remarks():
        typer.echo(f"- {remark}")
