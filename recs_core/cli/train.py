"""`recs train`: from data to a trained, evaluated, saved model; `run.json` repeats it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recs_core.cli import options
from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.experiment import Outcome

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "mrr", "coverage@20", "popularity@20", "tail_recall@20")


def train(
    source: Annotated[str | None, typer.Argument(help="A data set's name or a CSV or Parquet file.")] = None,
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
    validation: options.Validation = None,
    recipe: Annotated[str | None, typer.Option(help="Named defaults: ids, history, sequence or features.")] = None,
    context: Annotated[
        str | None,
        typer.Option(help="The file's columns known when a query is asked: device,page. For --recipe features."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides batches, negatives and initial weights.")] = None,
    device: options.Device = None,
    precision: Annotated[
        str | None, typer.Option(help="bf16: towers in bfloat16 while training, on a backend that can.")
    ] = None,
    float64: Annotated[bool, typer.Option("--float64", help="Train in float64, to compare backends.")] = False,
    config: Annotated[Path | None, typer.Option(help="Repeat the run in this run.json; data is taken from it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the bundle and run.json.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Finish the run in --out that was cut off.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model, evaluate it beside popularity, and save it as a bundle with its run.json."""
    from dataclasses import replace

    from recs_core.contract.errors import ConfigError
    from recs_core.experiment import Experiment, ModelSpec, execute
    from recs_core.storage.paths import local

    out = local(out, "--out")
    config = config and local(config, "--config")
    if config is not None and source is not None:
        raise ConfigError("give either data or --config run.json, which names its own")
    if resume and (config is not None or source is not None):
        raise ConfigError(f"--resume takes everything from {out}/run.json; leave data and --config out")
    planned = {"epochs": epochs, "batch_size": batch_size, "precision": precision}
    settings: Any = {name: value for name, value in planned.items() if value is not None}
    if resume and settings:
        raise ConfigError("--resume finishes the run as it was planned; leave --epochs, --batch-size, --precision out")
    if resume:
        config = out / "run.json"
    if config is None and source is None:
        raise ConfigError("name the data: a data set (recs data list), a CSV or Parquet file, or --config run.json")
    if out.exists() and not force and not resume:
        raise ConfigError(f"{out} exists; choose another --out, or --force to write into it")
    if config is not None:
        experiment = Experiment.read(config)
    else:
        assert source is not None
        data = options.data_spec(
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
            validation=validation,
        )
        asked = () if context is None else tuple(part.strip() for part in context.split(","))
        experiment = Experiment(data, ModelSpec(recipe=recipe or ("features" if asked else "history"), context=asked))
    if seed is not None:
        experiment = replace(experiment, seed=seed)
    if float64:
        experiment = replace(experiment, dtype="float64")
    say = None if as_json else typer.echo
    outcome = execute(experiment, device=device, say=say, out=out, resume=resume, **settings)
    outcome.write(out)
    if as_json:
        print_json(outcome.to_json())
        return
    show(outcome, out)


def show(outcome: Outcome, out: Path) -> None:
    """Print what came of a run."""
    from recs_core.evaluation.report import number

    if outcome.metrics:
        columns = outcome.metrics.values()
        print_table(("", *outcome.metrics), [(name, *(number(found[name]) for found in columns)) for name in SHOWN])
    typer.echo(
        f"trained {outcome.epochs} epochs in {outcome.training_seconds:.1f} s on {outcome.backend}; saved in {out}"
    )
