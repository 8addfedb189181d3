"""`recs evaluate`: exact metrics of a trained run on its test part, beside popularity, with intervals on request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.experiment import Parts
    from recs_core.recommender import Recommender


def evaluate(
    folder: Annotated[Path, typer.Argument(help="What recs train wrote: a folder with run.json and bundle/.")],
    k: Annotated[list[int] | None, typer.Option("-k", min=1, help="Cut-offs; may be given several times.")] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="Bootstrap 95 % intervals over queries.")] = False,
    ties: Annotated[str, typer.Option(help="pessimistic, expected or optimistic.")] = "pessimistic",
    repeats: Annotated[
        str,
        typer.Option(help="Test targets that training has, which no list can hold: miss counts them, drop does not."),
    ] = "miss",
    backend: Annotated[str | None, typer.Option(help="Through this backend; by default through NumPy alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a trained run on its test data, over the whole corpus, training candidates excluded."""
    from recs_core.contract.errors import ConfigError
    from recs_core.data.splits import leakage
    from recs_core.evaluation.targets import REPEATS
    from recs_core.experiment import Experiment, cut, load_data
    from recs_core.loading import load
    from recs_core.storage.paths import local

    if repeats not in REPEATS:
        raise ConfigError(f"--repeats is {' or '.join(REPEATS)}, got {repeats!r}")
    folder = local(folder, "recs evaluate")
    experiment = Experiment.read(folder / "run.json")
    parts = cut(load_data(experiment.data), experiment.data, experiment.seed)
    if parts.test is None:
        raise ConfigError(
            f"{folder}/run.json: the run keeps no test part (split is null), so there is nothing to evaluate"
        )
    bundle = folder / "bundle"
    model = load(bundle, runtime="numpy") if backend is None else load(bundle, backend=backend)
    found = _rows(model, parts, tuple(k or (10, 20)), ties, intervals, repeats)
    facts = leakage(parts.train, parts.test)
    if as_json:
        counts = {"targets": facts.test_targets, "repeated_targets": facts.repeated_targets}
        print_json({"ties": ties, "repeats": repeats, **counts, "metrics": found})
        return
    names = list(found)
    print_table(
        ("", *names), [(metric, *(_cell(found[name].get(metric)) for name in names)) for metric in found[names[0]]]
    )
    if facts.repeated_targets:
        typer.echo(
            f"{facts.repeated_targets:,} of {facts.test_targets:,} test targets ({facts.repeated_target_share:.1%}) "
            f"repeat a training pair: {'counted as missed' if repeats == 'miss' else 'left out'}"
        )


def _rows(
    model: Recommender, parts: Parts, k: tuple[int, ...], ties: Any, intervals: bool, repeats: Any
) -> dict[str, dict[str, dict[str, float]]]:
    """Name → metric → value and, on request, low and high."""
    from recs_core.evaluation import query_metrics, rank_popularity, report_rows

    assert parts.test is not None
    ranks = {
        "model": model.rank(parts.test, exclude=parts.train, repeats=repeats),
        "popularity": rank_popularity(model.schema, parts.train, parts.test, repeats=repeats),
    }
    rows = {
        name: report_rows(query_metrics(found, k=k, ties=ties), with_intervals=intervals)
        for name, found in ranks.items()
    }
    for cut in k:
        lists = model.list_metrics(parts.test, exclude=parts.train, k=cut)
        rows["model"] |= {name: {"value": value} for name, value in lists.items()}
    return rows


def _cell(row: dict[str, float] | None) -> str:
    if row is None:
        return ""
    bounds = f"  [{row['low']:.4f}, {row['high']:.4f}]" if "low" in row else ""
    return f"{row['value']:.4f}{bounds}"
