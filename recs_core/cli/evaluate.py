"""`recs evaluate`: exact metrics of a trained run on its test part, beside popularity; by slice on request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from recs_core.cli import options
from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.evaluation import Measures, Row, Slices
    from recs_core.experiment import Parts
    from recs_core.recommender import Recommender


def evaluate(
    folder: Annotated[Path, typer.Argument(help="What recs train wrote: a folder with run.json and bundle/.")],
    k: Annotated[list[int] | None, typer.Option("-k", min=1, help="Cut-offs; may be given several times.")] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="Bootstrap 95 % intervals over queries.")] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Metrics of the model by slice: warmth, or a column. May be given several times."),
    ] = None,
    ties: Annotated[str, typer.Option(help="pessimistic, expected or optimistic.")] = "pessimistic",
    repeats: Annotated[
        str,
        typer.Option(help="Test targets that training has, which no list can hold: miss counts them, drop does not."),
    ] = "miss",
    backend: Annotated[str | None, typer.Option(help="Through this backend; by default through NumPy alone.")] = None,
    device: options.Device = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a trained run on its test data, over the whole corpus, training candidates excluded."""
    from recs_core.contract.errors import ConfigError
    from recs_core.data.splits import leakage
    from recs_core.evaluation import Measures, plain, shown
    from recs_core.evaluation.targets import REPEATS
    from recs_core.experiment import Experiment, cut, load_data
    from recs_core.loading import load
    from recs_core.storage.paths import local

    if repeats not in REPEATS:
        raise ConfigError(f"--repeats is {' or '.join(REPEATS)}, got {repeats!r}")
    if device is not None and backend is None:
        raise ConfigError(f"--device {device} needs a backend: add --backend torch; NumPy alone runs on the CPU")
    measures = Measures(tuple(k or (10, 20)), cast(Any, ties))
    folder = local(folder, "recs evaluate")
    experiment = Experiment.read(folder / "run.json")
    parts = cut(load_data(experiment.data), experiment.data, experiment.seed)
    if parts.test is None:
        raise ConfigError(
            f"{folder}/run.json: the run keeps no test part (split is null), so there is nothing to evaluate; train "
            "with --split time, last or random"
        )
    bundle = folder / "bundle"
    model = load(bundle, runtime="numpy") if backend is None else load(bundle, backend=backend, device=device)
    found, slices = _measured(model, parts, measures, intervals, repeats, by or [])
    facts = leakage(parts.train, parts.test)
    if as_json:
        counts = {"targets": facts.test_targets, "repeated_targets": facts.repeated_targets}
        sliced = {"slices": {each.by: each.to_json() for each in slices}} if slices else {}
        print_json({"ties": ties, "repeats": repeats, **counts, "metrics": plain(found), **sliced})
        return
    names = list(found)
    print_table(("", *names), [(metric, *(shown(found[name][metric]) for name in names)) for metric in found[names[0]]])
    for each in slices:
        typer.echo(f"{each}\n")
    if facts.repeated_targets:
        typer.echo(
            f"{facts.repeated_targets:,} of {facts.test_targets:,} test targets ({facts.repeated_target_share:.1%}) "
            f"repeat a training pair: {'counted as missed' if repeats == 'miss' else 'left out'}"
        )


def _measured(
    model: Recommender, parts: Parts, measures: Measures, intervals: bool, repeats: Any, by: list[str]
) -> tuple[dict[str, dict[str, Row]], list[Slices]]:
    """Name → metric → value and, on request, low and high; and the model's slices."""
    from recs_core.evaluation import answer_popularity, labels_of, report_rows, slices_of

    train, test = parts.train, parts.test
    assert test is not None
    labels = {each: labels_of(each, test, model.catalog) for each in by}
    longest = max(measures.k)
    answers = {
        "model": model.answer(test, exclude=train, repeats=repeats, k=longest),
        "popularity": answer_popularity(model.schema, train, test, repeats=repeats, k=longest),
    }
    rows = {name: report_rows(measures.of(given), with_intervals=intervals) for name, given in answers.items()}
    return rows, [slices_of(answers["model"], each, labels[each], measures) for each in by]
