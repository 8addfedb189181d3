"""`recs data`: which data sets there are, what is wrong with one before training, and rows beyond memory as a store."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from recs_core.cli import options
from recs_core.cli.output import AsJson, print_json, print_table

app = typer.Typer(help="List data sets; check one before training; make a store.", no_args_is_help=True)


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
    weight: options.Weight = None,
    negatives: options.Negatives = None,
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
    """Show duplicates, unseen ids, time leaks and the share of cold candidates; of a store, that it is whole."""
    from recs_core.data.audit import audit
    from recs_core.experiment import cut, load_data

    spec = options.data_spec(
        source,
        split,
        query=query,
        candidate=candidate,
        timestamp=timestamp,
        weight=weight,
        negatives=negatives,
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
    data = load_data(spec, check=True)
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


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(help="A Parquet file, a folder of them, or a pattern: 'events/*.parquet'.")],
    to: Annotated[str, typer.Option(help="The store's folder: new, or a store to replace.")],
    query: Annotated[str, typer.Option(help="The files' column of query ids, such as customer_id.")],
    candidate: Annotated[str, typer.Option(help="The files' column of candidate ids, such as item_id.")],
    timestamp: options.Timestamp = None,
    weight: options.Weight = None,
    unit: options.Unit = None,
    queries: Annotated[str | None, typer.Option(help="File of query features.")] = None,
    candidates: Annotated[str | None, typer.Option(help="File of candidate features.")] = None,
    context: Annotated[
        str | None, typer.Option(help="Columns of the rows that features read of a request: device,page.")
    ] = None,
    min_per_query: options.MinPerQuery = None,
    min_per_candidate: options.MinPerCandidate = None,
    memory: Annotated[str, typer.Option(help="The most that rows take of it; the rest is spilled to disk.")] = "4GB",
    as_json: AsJson = False,
) -> None:
    """Write rows that memory does not hold to a store, which trains as they would: recs train STORE."""
    from recs_core.contract.errors import DataError
    from recs_core.storage.paths import local
    from recs_core.store.ingest import ingest as write

    data = write(
        source,
        to=to,
        query=query,
        candidate=candidate,
        timestamp=timestamp,
        weight=weight,
        queries=None if queries is None else local(queries, "--queries", DataError),
        candidates=None if candidates is None else local(candidates, "--candidates", DataError),
        context=() if context is None else [name.strip() for name in context.split(",")],
        unit=cast(Any, unit),
        min_per_query=min_per_query or 0,
        min_per_candidate=min_per_candidate or 0,
        memory=memory,
    )
    if as_json:
        print_json(
            {"store": to, "rows": len(data), "queries": len(data.query_ids), "candidates": len(data.candidate_ids)}
        )
        return
    typer.echo(f"{to}: {data!r}")
