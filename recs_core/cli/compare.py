"""`recs compare`: the same run on every backend, and a report of where they agree and what they cost."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recs_core.cli import options
from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.contract.protocols import DType
    from recs_core.experiment import Experiment

Report = dict[str, Any]


def compare(
    dataset: Annotated[
        str | None, typer.Option(help="A data set's name, or a CSV or Parquet file; by default report.")
    ] = None,
    backends: Annotated[
        str | None, typer.Option(help='As in "torch,keras[jax]"; by default every one installed.')
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="A run.json whose data, model and seed are compared.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Named defaults: ids, history, sequence or features.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides batches, negatives and initial weights.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    float64: Annotated[bool, typer.Option("--float64", help="Train in float64: held to the last digits.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A few epochs only.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists shown.")] = 5,
    show: Annotated[
        str | None, typer.Option(help='Query ids to show, as in "12347,12583"; by default three active ones.')
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPUs for each process; by default all.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html, .md and .json.")] = Path("comparison"),
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that exists.")] = False,
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
    """Train one model on every backend and report where they agree, by how much, and what each costs.

    Exit code 1 if a backend failed or differs by more than the run allows.
    """
    from recs_core.compare.comparison import compare as run_all
    from recs_core.compare.figures import check_extra
    from recs_core.compare.planning import Options, choose_backends, plan
    from recs_core.compare.writing import prepare, write
    from recs_core.storage.paths import local

    check_extra()
    out = local(out, "--out")
    data: dict[str, Any] = {
        "query": query, "candidate": candidate, "timestamp": timestamp, "unit": unit,
        "queries": queries, "candidates": candidates,
        "encoding": encoding, "delimiter": delimiter, "null_values": null, "lists": lists,
        "path": path, "min_per_query": min_per_query, "min_per_candidate": min_per_candidate, "at": at, "test": test,
    }  # fmt: skip
    experiment = _experiment(spec, dataset, recipe, split, data)
    dtype: DType = "float64" if float64 else experiment.dtype
    experiment = replace(experiment, seed=experiment.seed if seed is None else seed, dtype=dtype)
    names, skipped = choose_backends(backends)
    ids = [text.strip() for text in show.split(",")] if show else []
    settled = plan(experiment, Options(k=k, show=ids, epochs=epochs, quick=quick, threads=threads))
    prepare(out, force=force)
    try:
        report = run_all(
            settled,
            names,
            logs=out / "logs",
            command=shlex.join(["recs", *sys.argv[1:]]),
            live=sys.stderr.isatty(),
            skipped=skipped,
        )
    except KeyboardInterrupt:
        typer.echo("recs: interrupted; the processes it started have ended", err=True)
        raise typer.Exit(130) from None
    write(report, out)
    if as_json:
        print_json(report)
    else:
        tell(report, out)
    if not report["agree"]:
        raise typer.Exit(1)


def _experiment(
    spec: Path | None, dataset: str | None, recipe: str | None, split: str | None, data: dict[str, Any]
) -> Experiment:
    """The run to compare: a file's, a data set with the model that goes with it, or the model of one on the other."""
    from recs_core.compare.defaults import MODELS
    from recs_core.contract.errors import ConfigError
    from recs_core.experiment import DataSpec, Experiment, ModelSpec

    if spec is not None and recipe is not None:
        raise ConfigError("give either --spec, which holds a model, or --recipe")
    if spec is not None and dataset is None:
        return Experiment.read(spec)
    source = dataset or "report"
    model = ModelSpec(recipe=recipe) if recipe else MODELS.get(source, ModelSpec())
    return replace(
        Experiment.read(spec) if spec else Experiment(DataSpec(source), model),
        data=options.data_spec(source, split, **data),
    )


def tell(report: Report, out: Path) -> None:
    """The report on a terminal: verdicts, then one line per backend."""

    from recs_core.compare import tables

    for pair in report["pairs"]:
        typer.echo(f"{'✓' if pair['agree'] else '✗'} {pair['line']}")
    for name, problem in tables.failures(report):
        typer.echo(f"✗ {name} failed: {problem}")
    for name, problem in report["skipped"].items():
        typer.echo(f"  {name} is installed but not compared: {problem}")
    done = tables.finished(report)
    if done:
        shown = [name for name in tables.HEADLINE_METRICS if name in done[0]["metrics"]][:1]
        headers = ("backend", "loss", "± oracle", *shown, "epoch", "start", "memory", "again")
        print_table(headers, [_line(row, shown) for row in done])
    for table in tables.recommendations(report)[:1]:
        typer.echo(f"the first {report['k']} for {table.title}:")
        print_table(table.headers, table.rows)
    typer.echo(f"{report['headline']}; see {out / 'report.html'}")


def _line(row: dict[str, Any], shown: list[str]) -> tuple[str, ...]:
    from recs_core.compare import tables

    cost, again = row["cost"], row["reproducible"]
    return (
        row["name"],
        f"{row['losses']['epochs'][-1]:.4f}",
        tables.small(row["oracle"]["loss"]) if row["oracle"] else tables.NOTHING,
        *(f"{row['metrics'][name]['value']:.4f}" for name in shown),
        tables.seconds(cost["epoch"]),
        tables.seconds(cost["startup"] + cost["import"]),
        tables.size(cost["memory_peak"]),
        "failed" if "problem" in again else "same" if again["bit_equal"] else "differs",
    )
