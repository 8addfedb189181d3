"""`recs train`: from data to a trained, evaluated, saved model; `run.json` repeats it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recs_core.cli import options
from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.contract.workers import Workers
    from recs_core.experiment import Experiment, Outcome

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "mrr", "coverage@20", "popularity@20", "tail_recall@20")


def train(
    shell: typer.Context,
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
    pool_rows: Annotated[
        int | None, typer.Option(min=1, help="Shuffle so many rows at a time: for a store that memory cannot cache.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides batches, negatives and initial weights.")] = None,
    device: options.Device = None,
    precision: Annotated[
        str | None, typer.Option(help="bf16: towers in bfloat16 while training, on a backend that can.")
    ] = None,
    float64: Annotated[bool, typer.Option("--float64", help="Train in float64, to compare backends.")] = False,
    config: Annotated[Path | None, typer.Option(help="Repeat the run in this run.json; data is taken from it.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bundle and run.json.")] = Path("run"),
    continue_: Annotated[
        Path | None, typer.Option("--continue", metavar="BUNDLE", help="Train this bundle on, with the rows of --data.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="With --continue: a file of the rows that came since.")] = None,
    replay: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="With --continue: the share of each epoch that is drawn from older rows."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the run in --out that was cut off.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that exists.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Train in so many processes on this machine; several machines: torchrun.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds that a worker waits for another that is silent; 300.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model, evaluate it beside popularity, and save it as a bundle with its run.json.

    With --continue a bundle is trained on instead: the queries and candidates of --data join it, and a bundle is saved,
    without a run.json: no command repeats what several trainings made.
    """
    from dataclasses import replace

    from recs_core.contract.errors import ConfigError
    from recs_core.contract.workers import is_first
    from recs_core.experiment import execute
    from recs_core.storage.manifest import is_bundle
    from recs_core.storage.paths import local

    this = _worker(shell.find_root().obj, workers, timeout, continue_)
    out = local(out, "--out")
    config = config and local(config, "--config")
    file = {
        "query": query,
        "candidate": candidate,
        "timestamp": timestamp,
        "weight": weight,
        "negatives": negatives,
        "unit": unit,
        "queries": queries,
        "candidates": candidates,
        "encoding": encoding,
        "delimiter": delimiter,
        "null_values": null,
        "lists": lists,
        "path": path,
        "min_per_query": min_per_query,
        "min_per_candidate": min_per_candidate,
    }
    cut = {"at": at, "test": test, "validation": validation}
    if continue_ is not None:
        of_new_models = {"recipe": recipe, "context": context, "seed": seed, "float64": float64 or None, "split": split}
        of_new_models |= {"precision": precision, "pool_rows": pool_rows}
        refused = {"data": source, "config": config, "resume": resume or None, **of_new_models, **cut}
        _continue(continue_, data, out, force, refused, file, epochs, batch_size, replay, device, as_json)
        return
    if data is not None or replay is not None:
        raise ConfigError("--data and --replay are for --continue BUNDLE; a new model trains on the data named first")
    if config is not None and source is not None:
        raise ConfigError("give either data or --config run.json, which names its own")
    planned = {"epochs": epochs, "batch_size": batch_size, "precision": precision, "pool_rows": pool_rows}
    settings: Any = {name: value for name, value in planned.items() if value is not None}
    if resume:
        _check_resumed(out, source, config, settings)
    anew = this is not None and this.attempt > 0  # by its launcher, with the same command
    if resume or (anew and is_bundle(out / "bundle")):
        resume, config, source, settings = True, out / "run.json", None, {}
    experiment = _experiment(source, config, (split, {**file, **cut}), recipe, context)
    if is_first(this) and not (resume or anew):
        _check_out(out, force)
    if seed is not None:
        experiment = replace(experiment, seed=seed)
    if float64:
        experiment = replace(experiment, dtype="float64")
    say = None if as_json else typer.echo
    outcome = execute(experiment, device=device, workers=this, say=say, out=out, resume=resume, **settings)
    if not is_first(this):
        return
    outcome.write(out)
    if as_json:
        print_json(outcome.to_json())
        return
    show(outcome, out)


def _worker(arguments: list[str], size: int | None, timeout: float | None, continue_: Path | None) -> Workers | None:
    """The worker that this process is; None where it trains alone. Starts workers, and ends with them, where they are
    asked for and this process is none."""
    import os
    import sys

    from recs_core.contract.errors import ConfigError
    from recs_core.distributed.launch import launch, workers_of

    this = workers_of(os.environ, timeout)
    if this is not None and size not in (None, this.size):
        raise ConfigError(f"--workers {size}, and the environment says WORLD_SIZE={this.size}; leave --workers out")
    if continue_ is not None and (this is not None or (size or 1) > 1):
        raise ConfigError("--continue trains on one worker; leave --workers out")
    if this is not None or size in (None, 1):
        return this
    code, lines = launch(size, [sys.executable, "-m", "recs_core.cli", *arguments])
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(code)


def _experiment(
    source: str | None,
    config: Path | None,
    cut: tuple[str | None, dict[str, Any]],
    recipe: str | None,
    context: str | None,
) -> Experiment:
    """What is to be trained: that of a run.json, or of a source and how it is read and `cut`."""
    from recs_core.contract.errors import ConfigError
    from recs_core.experiment import Experiment, ModelSpec

    if config is not None:
        return Experiment.read(config)
    if source is None:
        raise ConfigError("name the data: a data set (recs data list), a CSV or Parquet file, or --config run.json")
    split, given = cut
    asked = () if context is None else tuple(part.strip() for part in context.split(","))
    model = ModelSpec(recipe=recipe or ("features" if asked else "history"), context=asked)
    return Experiment(options.data_spec(source, split, **given), model)


def _check_resumed(out: Path, source: str | None, config: Path | None, settings: Any) -> None:
    from recs_core.contract.errors import ConfigError

    if config is not None or source is not None:
        raise ConfigError(f"--resume takes everything from {out}/run.json; leave data and --config out")
    if settings:
        raise ConfigError("--resume finishes the run as it was planned; leave --epochs, --batch-size, --precision out")


def _check_out(out: Path, force: bool) -> None:
    from recs_core.contract.errors import ConfigError
    from recs_core.storage.whole import check_folder

    check_folder(out, "--out", ConfigError)
    if out.exists() and not force:
        raise ConfigError(f"{out} exists; choose another --out, or --force to write into it")


def _continue(
    bundle: Path,
    data: str | None,
    out: Path,
    force: bool,
    refused: dict[str, Any],
    file: dict[str, Any],
    epochs: int | None,
    batch_size: int | None,
    replay: float | None,
    device: str | None,
    as_json: bool,
) -> None:
    """`recs train --continue`. `refused`: options of a new model, by name, which must not be given."""
    from recs_core.contract.errors import ConfigError
    from recs_core.experiment import continued
    from recs_core.storage.paths import local

    bundle = local(bundle, "--continue")
    if data is None:
        raise ConfigError("--continue BUNDLE: name the file of the rows that came since with --data FILE")
    given = [name if name == "data" else f"--{name}" for name, value in refused.items() if value is not None]
    if given:
        raise ConfigError(f"--continue trains the bundle's own model on all rows of --data; leave {given[0]} out")
    _check_out(out, force)
    if (out / "run.json").exists():
        raise ConfigError(
            f"{out}/run.json: tells of another training, and a continued one has none; choose another --out"
        )
    say = None if as_json else typer.echo
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "replay": replay, "device": device}
    model = continued(bundle, options.data_spec(data, "none", **file), say=say, **settings)
    saved = model.save(out / "bundle")
    if as_json:
        sizes = {"queries": len(model.schema.queries), "candidates": len(model.schema.candidates)}
        print_json({"bundle": str(saved), **sizes, "epochs": model.position.epoch, "losses": model.history["loss"]})
        return
    typer.echo(f"trained to epoch {model.position.epoch} on {model.backend_name}; saved in {saved}")


def show(outcome: Outcome, out: Path) -> None:
    """Print what came of a run."""
    from recs_core.evaluation.report import number

    if outcome.metrics:
        columns = outcome.metrics.values()
        print_table(("", *outcome.metrics), [(name, *(number(found[name]) for found in columns)) for name in SHOWN])
    typer.echo(
        f"trained {outcome.epochs} epochs in {outcome.training_seconds:.1f} s on {outcome.backend}; saved in {out}"
    )
