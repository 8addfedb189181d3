"""Which temperature suits which data: recipes trained at several, on validation, never on the test.

    python benchmarks/quality/temperature.py ml-1m --data DIR --recipe ids --share 0.25
    python benchmarks/quality/temperature.py gowalla --data DIR --recipe half --queries 6000 --candidates 3000
    python benchmarks/quality/temperature.py synthetic --recipe ids --queries 2000 --candidates 3000 --rows 40
    python benchmarks/quality/temperature.py table

`--recipe`: `ids`, or `history` by query (`half`) or by interaction (`next`). A set is cut down to worlds of other
sizes: `--queries` and `--share` keep so many queries and so much of each one's training rows, drawn at random,
`--candidates` the most used ones. What is found goes into results/temperature.SET.json, one row per world and recipe,
beside what was found before; `table` puts all of it into docs/recipes.md. A set whose files are not there is skipped,
and said to be.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from command import RESULTS, loaded, parser
from numpy.typing import NDArray
from sets import SETS

from recs_core.data.interactions import Interactions
from recs_core.datasets import synthetic
from recs_core.evaluation import metrics
from recs_core.recipes import history, ids
from recs_core.recipes.choice import Recipe, rows_per_query, temperature
from recs_core.recipes.lift import lift
from recs_core.two_tower import TwoTower

RECIPES: Mapping[str, Callable[[Interactions], Recipe]] = {
    "ids": ids.choose,
    "half": lambda data: history.half_from_half(data, "asked for"),
    "next": lambda data: history.next_from_latest(data, "asked for"),
}
NAMES = {"ids": "`ids`", "half": "`history` by query", "next": "`history` by interaction"}
ASKED = 5_000
"""Queries of the validation part that are asked, at most."""
LEAST = 3
"""Training rows that a query of a world has."""
PAGE = RESULTS.parents[2] / "docs" / "recipes.md"
MARK = "<!-- made by benchmarks/quality/temperature.py table -->"


@dataclass(frozen=True)
class World:
    """Training rows, and validation rows of queries and candidates that the training rows know."""

    fitted: Interactions
    validation: Interactions
    k: int


def main() -> None:
    """Run one world at each temperature asked for, or write the table."""
    if sys.argv[1:2] == ["table"]:
        write_table(Path(sys.argv[2]) if len(sys.argv) > 2 else PAGE)
        return
    asked = parser(__doc__, [*SETS, "synthetic"])
    asked.add_argument("--recipe", choices=RECIPES, required=True)
    asked.add_argument("--queries", type=int, help="so many of them; of a synthetic world, how many")
    asked.add_argument("--candidates", type=int, help="the most used ones; of a synthetic world, how many")
    asked.add_argument("--share", type=float, help="of each query's training rows")
    asked.add_argument("--rows", type=int, default=40, help="rows per query of a synthetic world")
    asked.add_argument("--epochs", type=int, help="instead of the recipe's")
    asked.add_argument("--temperatures", type=float, nargs="+", default=[0.07, 0.1, 0.14, 0.2, 0.28])
    options = asked.parse_args()
    world = made(options)
    row = described(world, options)
    for tried in options.temperatures:
        chosen = changed(RECIPES[options.recipe](world.fitted), tried, options.epochs)
        for seed in options.seeds:
            began = time.perf_counter()
            value = measure(world, chosen, seed, options.backend)
            print(f"{options.recipe} {tried:g} seed {seed}: {value}  {time.perf_counter() - began:.0f} s", flush=True)
            keep(options.out / f"temperature.{options.set}.json", options.set, row, f"{tried:g}", str(seed), value)


def made(options: argparse.Namespace) -> World:
    """The world asked for."""
    if options.set == "synthetic":
        queries, candidates = options.queries or 2_000, options.candidates or 3_000
        rows = queries * options.rows
        data = synthetic.load(num_queries=queries, num_candidates=candidates, num_interactions=rows, dim=16, taste=8.0)
        options.out.mkdir(exist_ok=True)
        return World(*data.split(by="random", test=0.1, known_only=True), 20)
    data = loaded(options)
    return restricted(World(data.fitted, data.validation, data.k[0]), options)


def restricted(world: World, options: argparse.Namespace) -> World:
    """The part of the world that was asked for, of queries that keep enough training rows."""
    random = np.random.default_rng(0)
    fitted, asked = world.fitted, world.validation
    kept = np.zeros(len(fitted.candidate_ids), bool)
    kept[np.argsort(-fitted.candidate_counts(), kind="stable")[: options.candidates]] = True
    rows = kept[fitted.candidate_codes] & (random.random(len(fitted)) < (options.share or 1.0))
    rows &= np.isin(fitted.query_codes, random.permutation(len(fitted.query_ids))[: options.queries])
    fitted = fitted.take(rows).filter(min_per_query=LEAST, min_per_candidate=1)
    known = fitted.query_ids.encode(asked.query_ids.ids)[asked.query_codes] >= 0
    known &= fitted.candidate_ids.encode(asked.candidate_ids.ids)[asked.candidate_codes] >= 0
    some = random.permutation(np.unique(asked.query_codes[known]))[:ASKED]
    return World(fitted, asked.take(known & np.isin(asked.query_codes, some)), world.k)


def described(world: World, options: argparse.Namespace) -> dict[str, Any]:
    """What the row of a world says of it; two runs with the same words are of one world."""
    cut = {name: getattr(options, name) for name in ("queries", "candidates", "share") if getattr(options, name)}
    return {
        "recipe": options.recipe,
        "cut": cut | ({"rows": options.rows} if options.set == "synthetic" else {}),
        "candidates": len(world.fitted.candidate_ids),
        "queries": len(world.fitted.query_ids),
        "rows_per_query": round(rows_per_query(world.fitted), 1),
        "lift": round(lift(world.fitted), 2),
        "epochs": options.epochs or RECIPES[options.recipe](world.fitted).training.epochs,
        "k": world.k,
    }


def changed(base: Recipe, tried: float, epochs: int | None) -> Recipe:
    """The recipe at this temperature, for so many epochs."""
    training = base.training if epochs is None else replace(base.training, epochs=epochs)
    return replace(base, retrieval=replace(base.retrieval, temperature=tried), training=training)


def measure(world: World, chosen: Recipe, seed: int, backend: str) -> list[float]:
    """Recall and NDCG at the world's k."""
    model = TwoTower(
        chosen.query,
        chosen.candidate,
        chosen.retrieval,
        chosen.optimizer,
        training=chosen.training,
        seed=seed,
        backend=backend,
    )
    model.fit(world.fitted, progress=False)
    found = metrics(model.rank(world.validation, exclude=world.fitted), k=[world.k])
    return [round(found[f"{name}@{world.k}"], 5) for name in ("recall", "ndcg")]


def keep(path: Path, name: str, row: dict[str, Any], tried: str, seed: str, value: list[float]) -> None:
    """Put the value into the file: temperature → seed → recall and NDCG."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    found = next((old for old in rows if {**old, "values": None} == {**row, "values": None}), None)
    if found is None:
        found = {**row, "values": {}}
        rows.append(found)
    found["values"].setdefault(tried, {})[seed] = value
    found["values"] = dict(sorted(found["values"].items(), key=lambda item: float(item[0])))
    rows.sort(key=lambda row: (row["recipe"], -row["candidates"], -row["queries"], -row["rows_per_query"]))
    path.write_text(json.dumps({"set": name, "rows": rows}, indent=1) + "\n")


def write_table(page: Path) -> None:
    """Put the table of all results, and what explains them, between the marks of the page."""
    before, _, after = page.read_text(encoding="utf-8").split(MARK)
    head = "| set | recipe | queries × candidates | rows per query | lift | NDCG at each temperature | best | rule |"
    lines = [head, "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |"]
    rows = []
    for path in sorted(RESULTS.glob("temperature.*.json")):
        found = json.loads(path.read_text())
        lines += [table_row(found["set"], row) for row in found["rows"]]
        rows += found["rows"]
    text = "\n".join([*lines, "", explained(rows)])
    page.write_text(f"{before}{MARK}\n\n{text}\n\n{MARK}{after}", encoding="utf-8")


def explained(rows: list[dict[str, Any]]) -> str:
    """How far least-squares fits of the best temperatures by query, and the rule, are off."""
    known = [(row, peak(mean_ndcg(row))) for row in rows if row["recipe"] != "next"]
    worlds = [(row, at) for row, at in known if at is not None]
    wanted = np.log([at for _, at in worlds])

    def column(name: str) -> NDArray[np.float64]:
        return np.log([max(row[name], 1.0) for row, _ in worlds])

    def off(difference: NDArray[np.float64]) -> str:
        return f"{np.exp(np.sqrt(np.mean(difference**2))) - 1:.0%}"

    def fit(*names: str) -> str:
        terms = np.stack([np.ones(len(worlds)), *map(column, names)], 1)
        return off(wanted - terms @ np.linalg.lstsq(terms, wanted)[0])

    rule = np.log([temperature(row["rows_per_query"], row["lift"]) for row, _ in worlds])
    return (
        f"Over the {len(worlds)} worlds trained by query whose best temperature lies between two that were tried, the "
        f"best fit of its logarithm by the corpus alone is {fit('candidates')} off (root mean square), by corpus and "
        f"rows per query {fit('candidates', 'rows_per_query')}, by rows per query and lift "
        f"{fit('rows_per_query', 'lift')}, by all three {fit('candidates', 'rows_per_query', 'lift')}; the rule, with "
        f"its steps, is {off(wanted - rule)} off."
    )


def table_row(name: str, row: dict[str, Any]) -> str:
    """A world, what each temperature gave, the best one, and what the rule takes."""
    ndcg = mean_ndcg(row)
    values = ", ".join(f"{tried:g}: {value:.4f}" for tried, value in ndcg.items())
    rule = temperature(row["rows_per_query"], row["lift"], "interaction" if row["recipe"] == "next" else "query")
    return (
        f"| {name} | {NAMES[row['recipe']]} | {row['queries']:,} × {row['candidates']:,} | {row['rows_per_query']:g} | "
        f"{row['lift']:.2f} | {values} | {best(ndcg)} | {rule:g} |"
    )


def mean_ndcg(row: dict[str, Any]) -> dict[float, float]:
    """Temperature → NDCG, the mean over seeds."""
    return {float(tried): float(np.mean([one[1] for one in by.values()])) for tried, by in row["values"].items()}


def best(ndcg: Mapping[float, float]) -> str:
    """The best temperature in words: ≤ or ≥ where the best one tried is the first or last."""
    at = peak(ndcg)
    if at is not None:
        return f"{at:.2g}"
    if len(ndcg) == 1:
        return ""
    top = max(ndcg, key=lambda tried: ndcg[tried])
    return f"{'≤' if top == min(ndcg) else '≥'} {top:g}"


def peak(ndcg: Mapping[float, float]) -> float | None:
    """Where a parabola over log temperature through the best and its neighbours is highest; None at an end."""
    tried, values = list(ndcg), list(ndcg.values())
    at = int(np.argmax(values))
    if at in (0, len(values) - 1):
        return None
    a, b, _ = np.polyfit(np.log(tried[at - 1 : at + 2]), values[at - 1 : at + 2], 2)
    return float(np.exp(-b / (2 * a)))


if __name__ == "__main__":
    main()
