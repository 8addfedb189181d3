"""How well the recipes recommend, beside what else could be run on the same split.

    python benchmarks/quality/run.py online-retail
    python benchmarks/quality/run.py gowalla --data DIR [--backend torch] [--seeds 0 1 2] [--no-peers]

Trains the set's recipe on its training rows with each seed, and, in the same run, the peers of peers.py, whose settings
are chosen on validation. Every ranking is of the whole corpus without the training items. Prints a table and writes it
as results/SET.BACKEND.json, from which page.py makes docs/quality.md. Needs the plugin of the backend; the peers need
scipy, implicit and recs-core-tensorflow. A set whose files are not there is skipped, and said to be.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
from command import loaded, parser
from numpy.typing import NDArray
from problem import Problem, tail_recall
from sets import SETS, QualitySet

from recs_core.evaluation import QueryMetrics, Ranks, compare, intervals, query_metrics
from recs_core.recipes import choose, recipe

PLAIN_ROUNDS = 3
PLAIN_EPOCHS = 3


def main() -> None:
    """Run one set."""
    asked = parser(__doc__, SETS)
    asked.add_argument("--no-peers", action="store_true", help="the recipe and the plain loop alone")
    options = asked.parse_args()
    data = loaded(options)
    measured = measure(data, options.backend, options.seeds, with_peers=not options.no_peers)
    path = options.out / f"{data.name}.{options.backend.replace('[', '-').rstrip(']')}.json"
    path.write_text(json.dumps(measured, indent=1) + "\n")
    print(f"wrote {path}", file=sys.stderr)


def measure(data: QualitySet, backend: str, seeds: list[int], *, with_peers: bool) -> dict[str, Any]:
    """Everything that the page says of a set on a backend."""
    problem = Problem.of(data.train, data.test)
    rare = problem.tail()
    ours, row = measure_recipe(data, backend, seeds, rare)
    rows = [row]
    say(row)
    plain = {} if data.recipe == "sequence" else plain_ratio(data, backend)  # benchmarks/sequences.py times that
    left_out: list[str] = []
    if with_peers:
        from peers import peers

        chosen, left_out = peers(problem)
        validation = Problem.of(data.fitted, data.validation)
        for peer in chosen:
            setting = best_setting(peer, validation, data)
            began = time.perf_counter()
            scores = peer.fit(problem, **setting)
            seconds = time.perf_counter() - began
            found = problem.rank(scores)
            rows.append(described(peer.name, found, rare, data, seconds, setting))
            rows[-1]["ours_minus_it"] = differences(query_metrics(found, k=data.k), ours, data)
            say(rows[-1])
    return {
        "set": data.name,
        "backend": backend,
        "seeds": seeds,
        "shape": [len(data.train), len(data.test), *problem.matrix.shape],
        "metrics": list(data.metrics),
        "goals": list(data.goals),
        "recipe": data.recipe,
        "reasons": list(choose(data.recipe, data.train).reasons),
        "rows": rows,
        "left_out": left_out,
        **plain,
    }


def measure_recipe(
    data: QualitySet, backend: str, seeds: list[int], rare: NDArray[np.bool_]
) -> tuple[QueryMetrics, dict[str, Any]]:
    """The recipe with each seed: the mean over seeds of each query's metrics, and its row of the table."""
    found, raw, seconds = [], [], []
    for seed in seeds:
        model = recipe(data.recipe, data.train, backend=backend, seed=seed)
        began = time.perf_counter()
        model.fit(data.train, progress=False)
        seconds.append(time.perf_counter() - began)
        found.append(model.rank(data.test, exclude=data.train))
        if data.show_raw:
            raw.append(model.evaluate(data.test, k=data.k)[data.metrics[0]])
    by_seed = [query_metrics(one, k=data.k) for one in found]
    mean = replace(by_seed[0], values={n: np.mean([one.values[n] for one in by_seed], 0) for n in by_seed[0].values})
    row = described(f"recs-core, `{data.recipe}`", found[0], rare, data, statistics.mean(seconds), {})
    row["metrics"] = shown(mean, data)
    row["tail_recall"] = statistics.mean(tail_recall(one, rare, data.k[0]) for one in found)
    row["by_seed"] = [[one.mean()[name] for name in data.metrics] for one in by_seed]
    if raw:
        row["with_training_items"] = statistics.mean(raw)
    return mean, row


def best_setting(peer: Any, validation: Problem, data: QualitySet) -> dict[str, Any]:
    """The setting of a peer's grid with the best last metric of the set on validation."""
    if len(peer.grid) == 1:
        return dict(peer.grid[0])

    def score(setting: dict[str, Any]) -> float:
        found = validation.rank(peer.fit(validation, **setting))
        return query_metrics(found, k=data.k).mean()[data.metrics[-1]]

    return dict(max(peer.grid, key=score))


def plain_ratio(data: QualitySet, backend: str) -> dict[str, Any]:
    """Seconds per epoch of the recipe and of a plain PyTorch loop, the medians over turns of a few epochs each."""
    from plain import seconds_an_epoch

    plain: list[float] = []
    ours: list[float] = []
    for _ in range(PLAIN_ROUNDS):
        plain += seconds_an_epoch(choose(data.recipe, data.train), data.train, PLAIN_EPOCHS)
        model = recipe(data.recipe, data.train, backend=backend)
        ours += model.fit(data.train, epochs=PLAIN_EPOCHS, progress=False)["seconds"]
    return {"seconds_an_epoch": {"recipe": statistics.median(ours), "plain PyTorch": statistics.median(plain)}}


def described(
    name: str, found: Ranks, rare: NDArray[np.bool_], data: QualitySet, seconds: float, setting: dict[str, Any]
) -> dict[str, Any]:
    """A row of the table."""
    return {
        "name": name,
        "setting": setting,
        "metrics": shown(query_metrics(found, k=data.k), data),
        "tail_recall": tail_recall(found, rare, data.k[0]),
        "seconds": seconds,
    }


def shown(found: QueryMetrics, data: QualitySet) -> dict[str, Any]:
    """The set's metrics with their intervals."""
    measured = intervals(only(found, data))
    return {name: dict(measured[name]) for name in data.metrics}


def differences(peer: QueryMetrics, ours: QueryMetrics, data: QualitySet) -> dict[str, Any]:
    """Ours − the peer's, on the same bootstrap draws of queries."""
    return {name: dict(value) for name, value in compare(only(peer, data), only(ours, data)).items()}


def only(found: QueryMetrics, data: QualitySet) -> QueryMetrics:
    """The set's metrics alone."""
    return replace(found, values={name: found.values[name] for name in data.metrics})


def say(row: dict[str, Any]) -> None:
    """A row on the terminal."""
    values = "  ".join(f"{name} {value['value']:.4f}" for name, value in row["metrics"].items())
    print(
        f"{row['name']:28} {values}  tail {row['tail_recall']:.4f}  {row['seconds']:.1f} s {row['setting'] or ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
