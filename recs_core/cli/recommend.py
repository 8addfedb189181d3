"""`recs recommend`: the best candidates of a few queries, or of a file of them, from a bundle and no framework."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recs_core.cli import options
from recs_core.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from recs_core.recommender import Recommender

UNKNOWN = ("oov", "popular", "error")
INTEGER = re.compile(r"0|-?[1-9][0-9]*")


def recommend(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a run's checkpoint.")],
    query: Annotated[list[str] | None, typer.Option(help="A query id; may be given several times.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Parquet or CSV file with a column of query ids.")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file for the answers to --queries.")] = None,
    column: Annotated[str | None, typer.Option(help="The column of ids in --queries, if renamed.")] = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    null: options.Null = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many candidates per query.")] = 10,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Leave out what training saw.")] = False,
    where: Annotated[
        str | None, typer.Option(help="Only candidates of which this is true: 'price < 10 and country = \"UK\"'.")
    ] = None,
    diversity: Annotated[float | None, typer.Option(help="From 0 to 1: choose for variety too.")] = None,
    pool: Annotated[int | None, typer.Option(help="How many of the best --diversity chooses from.")] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(help="What is known of the request, device=ios, or blank; may be given several times."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="The time of the request; by default now.")] = None,
    unknown: Annotated[str, typer.Option(help="Queries never seen: oov, popular or error.")] = "oov",
    index: Annotated[
        str | None, typer.Option(help="The index to search with, by default the bundle's own; see `recs backends`.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace --out if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recommend from a bundle. A job over --queries that was cut off goes on when it is started again."""
    from recs_core.contract.errors import ConfigError
    from recs_core.storage.paths import local
    from recs_core.tables.csv_files import Dialect

    if (query is None) == (queries is None):
        raise ConfigError("name the queries: --query ID, or --queries FILE with --out FILE.parquet")
    if (queries is None) != (out is None):
        raise ConfigError("--queries FILE and --out FILE.parquet go together; name both")
    if unknown not in UNKNOWN:
        raise ConfigError(f"--unknown is {', '.join(UNKNOWN)}; got {unknown!r}")
    _leave_pandas_out()
    how: dict[str, Any] = {"exclude_seen": exclude_seen, "unknown": unknown}
    how |= {"where": where, "diversity": diversity, "pool": pool}
    how |= {"context": tuple(context or ()), "at": at}
    if query is not None:
        _few(bundle, index, query, k, as_json, **how)
        return
    assert queries is not None and out is not None
    queries, out = local(queries, "--queries"), options.parquet_out(out, "--out", force)
    dialect = Dialect(encoding, delimiter, options.words(null))
    _many(bundle, index, as_json, queries=queries, out=out, column=column, k=k, dialect=dialect, **how)


def _leave_pandas_out() -> None:
    """pyarrow imports pandas, where it is installed, at the first array it makes: half a second for nothing here."""

    class NoPandas:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "pandas":
                raise ModuleNotFoundError("recs recommend does without pandas", name=name)

    sys.meta_path.insert(0, NoPandas)


def _loaded(bundle: Path, index: str | None) -> Recommender:
    """The model, with this index; that one is approximate is said on stderr, out of the way of programs."""
    from recs_core.loading import load

    if index is None:
        model = load(bundle, runtime="numpy")
    else:
        from recs_core.plugin.manager import load_index

        model = load(bundle, runtime="numpy", index=load_index(index, asked_by="recs recommend --index"))
    info = getattr(model.index, "info", None)
    if info is not None and not info.is_exact:
        held = "" if index else ", which the bundle holds,"
        typer.echo(f"recs: index {index or info.name!r}{held} is approximate, by its manifest {info.finds}", err=True)
    return model


def _few(
    bundle: Path,
    index: str | None,
    query: list[str],
    k: int,
    as_json: bool,
    *,
    exclude_seen: bool,
    where: str | None,
    context: tuple[str, ...],
    at: str | None,
    **options: Any,
) -> None:
    import pyarrow as pa

    from recs_core.runtime.requests import Requests

    model = _loaded(bundle, index)
    ids = _typed(model, query)
    options |= Requests.of(model.query, model.schema, context, at).asks(pa.table({"id": ids}))
    if where is not None:
        from recs_core.where import parse

        options["where"] = parse(where, model.catalog.attributes.schema)
    found = model.recommend(ids, k, exclude="seen" if exclude_seen else None, **options)
    answers = [
        [(id_, float(score)) for id_, score in zip(ids, scores, strict=True) if score > -float("inf")]
        for ids, scores in zip(found.ids.tolist(), found.scores, strict=True)
    ]
    if as_json:
        listed = [[{"id": id_, "score": score} for id_, score in answer] for answer in answers]
        print_json([{"query": name, "candidates": answer} for name, answer in zip(query, listed, strict=True)])
        return
    _print_plain(
        [(model.schema.query_name, "rank", model.schema.candidate_name, "score")]
        + [
            (name, str(rank), str(id_), f"{score:.4f}")
            for name, answer in zip(query, answers, strict=True)
            for rank, (id_, score) in enumerate(answer, 1)
        ]
    )


def _print_plain(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns side by side; without rich, whose import takes as long as the answer."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _typed(model: Recommender, query: list[str]) -> list[Any]:
    """Ids in the type of training."""
    import pyarrow as pa

    from recs_core.contract.errors import DataError

    if not pa.types.is_integer(model.schema.queries.ids.type):
        return query
    for name in query:
        if not INTEGER.fullmatch(name):  # int() would read 007, 1_0 and ７ too, which are other ids
            known = model.schema.queries.ids[0]
            raise DataError(
                f"--query: the ids of {model.schema.query_name!r} are integers, got {name!r}; write one as in {known}"
            )
    return [int(name) for name in query]


def _many(bundle: Path, index: str | None, as_json: bool, **job: Any) -> None:
    from recs_core.bundle import info
    from recs_core.runtime.batch import Job, recommend_file

    digest = info(bundle).manifest["digest"]
    model = _loaded(bundle, index)
    with _bar() as progress:
        done = recommend_file(model, Job(bundle=digest, **job), progress)
    if as_json:
        print_json(
            {
                **vars(done),
                "out": str(job["out"]),
                "index": index or getattr(getattr(model.index, "info", None), "name", "exact"),
            }
        )
        return
    resumed = f", {done.resumed:,} of them by an earlier run" if done.resumed else ""
    strangers = f"; never seen in training: {done.unknown:,}" if done.unknown else ""
    typer.echo(f"answered {done.queries:,} queries{resumed}{strangers}; {job['out']}")


def _bar() -> Any:
    """A progress bar on stderr, or nothing where that is no terminal."""
    from contextlib import contextmanager

    @contextmanager
    def quiet() -> Any:
        yield lambda done, of: None

    @contextmanager
    def shown() -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("recommending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("recommending")
            yield lambda done, of: bar.update(task, completed=done, total=of)

    return shown() if sys.stderr.isatty() else quiet()
