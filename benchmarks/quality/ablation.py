"""What each part of a recipe is worth: the same training with one thing changed, on validation, never on the test.

    python benchmarks/quality/ablation.py online-retail [--seeds 0 1 2]
    python benchmarks/quality/ablation.py gowalla --data DIR --seeds 0 --only recipe in-batch in-batch+logq no-bias

Writes each row into results/ablation.SET.json when it is done; page.py makes its part of docs/quality.md from that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from command import loaded, parser
from problem import Problem, tail_recall
from sets import SETS, QualitySet

from recs_core.contract.optimizers import Adam
from recs_core.contract.retrieval import Negatives
from recs_core.contract.training import Schedule, TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.evaluation import metrics
from recs_core.recipes import choose, history
from recs_core.recipes.choice import Recipe
from recs_core.two_tower import TwoTower

Change = Callable[[Recipe, Interactions], Recipe]

PAIRS = TrainingSpec(epochs=8, batch_size=1024, batch_by="interaction", schedule=Schedule())
"""Batches by interaction: what most two-tower models are trained with."""


def by_interaction(negatives: Negatives, **retrieval: Any) -> Change:
    """The recipe's towers and task, trained a row at a time against these negatives."""

    def change(base: Recipe, _: Interactions) -> Recipe:
        settings = {"num_negatives": None, "mask_positives": False, **retrieval}
        training = replace(PAIRS, recency_days=base.training.recency_days, row_weight=base.training.row_weight)
        spec = replace(base.retrieval, negatives=negatives, **settings)
        return replace(base, retrieval=spec, training=training, optimizer=Adam(5e-3, dense=True))

    return change


def task(**retrieval: Any) -> Change:
    """The recipe with another task."""
    return lambda base, _: replace(base, retrieval=replace(base.retrieval, **retrieval))


def training(**settings: Any) -> Change:
    """The recipe trained another way."""
    return lambda base, _: replace(base, training=replace(base.training, **settings))


def temperature(factor: float) -> Change:
    """The recipe with a multiple of its temperature."""
    return lambda base, data: task(temperature=base.retrieval.temperature * factor)(base, data)


def other_tower(base: Recipe, data: Interactions) -> Recipe:
    """A query's history for a vector of its own, or back."""
    other = "ids" if base.history else "history"
    return replace(base, query=choose(other, data).query)


def other_step(base: Recipe, data: Interactions) -> Recipe:
    """What the recipe `history` does where its rule says the opposite; `ids` as it is."""
    if base.history is None or data.timestamps is None:
        return base
    other = history.next_from_latest if base.training.batch_by == "query" else history.half_from_half
    return other(data, "against the rule")


ROWS: Mapping[str, tuple[str, Change]] = {
    "in-batch": ("by interaction, batch 1,024: in-batch negatives", by_interaction("in-batch", logq=False)),
    "in-batch+logq": ("the same, logQ", by_interaction("in-batch", logq=True)),
    "in-batch+refined": ("the same, refined logQ", by_interaction("in-batch", logq="refined")),
    "mixed": ("logQ, and 1,024 uniform negatives beside", by_interaction("mixed", num_negatives=1024)),
    "corpus": ("the whole corpus", by_interaction("corpus")),
    "recipe": ("the recipe", lambda base, _: base),
    "no-bias": ("the recipe without a bias per candidate", task(candidate_bias=False)),
    "half-temperature": ("the recipe at half its temperature", temperature(0.5)),
    "double-temperature": ("the recipe at twice its temperature", temperature(2.0)),
    "lazy": ("the recipe with lazy Adam", lambda base, _: replace(base, optimizer=Adam(base.optimizer.learning_rate))),
    "no-recency": ("the recipe, old rows as good as new", training(recency_days=None)),
    "no-row-weight": ("the recipe, every row weighs 1", training(row_weight=1.0)),
    "other-tower": ("the recipe with the other tower: `history` for `ids`, or back", other_tower),
    "other-step": ("`history` trained the other way: next from latest for half from half, or back", other_step),
}
"""Key → what the page says, and the change to the recipe."""


def main() -> None:
    """Run the rows asked for."""
    asked = parser(__doc__, SETS)
    asked.add_argument("--only", nargs="+", choices=ROWS)
    options = asked.parse_args()
    data = loaded(options)
    path = options.out / f"ablation.{data.name}.json"
    for key in options.only or ROWS:
        row = measure(data, key, options.seeds, options.backend)
        if row is not None:
            write(path, data, row)
            print(row["name"], row["mean"], f"tail {row['tail_recall']:.4f}  {row['seconds']:.0f} s", flush=True)


def write(path: Path, data: QualitySet, row: dict[str, Any]) -> None:
    """Put the row in the file, in the order of `ROWS`, in place of an older one of that key."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [*(old for old in rows if old["key"] != row["key"]), row]
    order = list(ROWS)
    rows.sort(key=lambda row: order.index(row["key"]))
    found = {"set": data.name, "metrics": list(data.metrics), "rows": rows}
    path.write_text(json.dumps(found, indent=1) + "\n")


def measure(data: QualitySet, key: str, seeds: list[int], backend: str) -> dict[str, Any] | None:
    """One row over the seeds; None where the change changes nothing on this set."""
    base = choose(data.recipe, data.fitted)
    name, change = ROWS[key]
    changed = change(base, data.fitted)
    if changed == base and key != "recipe":
        return None
    rare = Problem.of(data.fitted, data.validation).tail()
    values, tails, seconds = [], [], []
    for seed in seeds:
        model = TwoTower(
            changed.query,
            changed.candidate,
            changed.retrieval,
            changed.optimizer,
            training=changed.training,
            seed=seed,
            backend=backend,
        )
        began = time.perf_counter()
        model.fit(data.fitted, progress=False)
        seconds.append(time.perf_counter() - began)
        found = model.rank(data.validation, exclude=data.fitted)
        measured = metrics(found, k=data.k)
        values.append([measured[metric] for metric in data.metrics])
        tails.append(tail_recall(found, rare, data.k[0]))
    return {
        "key": key,
        "name": name,
        "seeds": seeds,
        "by_seed": values,
        "mean": np.mean(values, 0).tolist(),
        "tail_recall": float(np.mean(tails)),
        "seconds": float(np.mean(seconds)),
    }


if __name__ == "__main__":
    main()
