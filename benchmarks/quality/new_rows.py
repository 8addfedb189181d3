"""Where the rows of new ids should start: zeros, the table's mean, a random draw, or where features put them.

A tenth of the candidates and a tenth of the queries leave the rows that a recipe trains on; `extend` lets them join
with those rows, their rows in the tables are put where a rule says, and `fit` trains on with them. Recall@20 of later
rows, of all and of those of new candidates and of new queries: at once, and after some epochs.

    python benchmarks/quality/new_rows.py online-retail --recipe features
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import recs_core as recs
from recs_core.contract.batch import Ragged, flat
from recs_core.contract.weights import TABLE_SCALE
from recs_core.experiment import PROTOCOLS, cut, load_data
from recs_core.fitted import Fitted
from recs_core.growth.extension import grown

NEIGHBOURS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set")
    parser.add_argument("--recipe", default="history")
    parser.add_argument("--epochs", type=int, default=None, help="of the first fit, instead of the recipe's")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    print("| start | bias | epochs after | all | new candidates | new queries |\n|---|---|---|---|---|---|")
    found: dict[tuple[str, str, int], list[tuple[float, float, float]]] = {}
    for seed in range(options.seeds):
        for key, scores in measured(options.set, options.recipe, options.epochs, seed):
            found.setdefault(key, []).append(scores)
    for (rule, bias, epochs), scores in found.items():
        cells = " | ".join(f"{value:.4f}" for value in np.mean(scores, axis=0))
        print(f"| {rule} | {bias} | {epochs} | {cells} |", flush=True)


def measured(name: str, recipe: str, epochs: int | None, seed: int):
    """((rule, bias, epochs after), (recall of all, of new candidates, of new queries)) of one seed."""
    spec = PROTOCOLS[name]
    parts = cut(load_data(spec), spec, seed)
    train, test = parts.train, parts.test
    assert test is not None
    random = np.random.default_rng(seed)
    new_candidate = random.random(len(train.candidate_ids)) < 0.1
    new_query = random.random(len(train.query_ids)) < 0.1
    joins = new_candidate[train.candidate_codes] | new_query[train.query_codes]
    known = train.take(~joins)._restrict(~new_query, ~new_candidate)
    model = recs.recipe(recipe, known, backend="torch", seed=seed)
    model.fit(known, progress=False, **({} if epochs is None else {"epochs": epochs}))
    value = grown(model.fitted(), train.take(joins))
    tests = [test, test.take(new_candidate[test.candidate_codes]), test.take(new_query[test.query_codes])]
    for rule, rows in RULES.items():
        for bias in ("mean", "zero") if rule == "mean" else ("mean",):
            asked = recs.TwoTower.of(started(value, model.fitted(), rows, bias, seed), backend="torch")
            for after in (0, 1, 3):
                if after:
                    done = {1: 1, 3: 2}[after]
                    asked.fit(train.take(joins), epochs=done, schedule=None, replay=0.5, progress=False)
                scores = tuple(asked.evaluate(part, exclude=train, k=[20])["recall@20"] for part in tests)
                yield (rule, bias, after), scores


Rule = Callable[[Fitted, Fitted, str, int, int], NDArray[np.floating]]


def started(value: Fitted, before: Fitted, rule: Rule, bias: str, seed: int) -> Fitted:
    """The grown value with its new rows, and biases, put elsewhere."""
    weights = dict(value.weights)
    for name in value.catalog.schema.vocabularies:
        first = before.catalog.schema.table_rows[name]
        if first < len(weights[name]):
            weights[name] = weights[name].copy()
            weights[name][first:] = rule(value, before, name, first, seed)
    if bias == "zero" and "task/bias" in weights:
        weights["task/bias"] = weights["task/bias"].copy()
        weights["task/bias"][len(before.weights["task/bias"]) :] = 0
    return replace(value, weights=weights)


def nearest(value: Fitted, before: Fitted, name: str, first: int, seed: int) -> NDArray[np.floating]:
    """The mean of the rows of those whose other features are nearest by cosine; the table's mean without features."""
    rows, schema = value.weights[name][first:].copy(), value.catalog.schema
    for side, features in (("query", value.catalog.query), ("candidate", value.catalog.candidate)):
        tower = getattr(value.declared, side)
        own = [f for f in tower.features if f.name == schema.id_name(side) and f.table_name == name]
        others = [f for f in tower.features if f.name != schema.id_name(side) and not f.reads_past]
        if not own or not others:
            continue
        inputs = [inputs_of(value, f.column(side), features) for f in others]
        x = np.hstack(inputs)
        x = x / np.sqrt((x * x).sum(1, keepdims=True) + 1e-12)
        table_row = np.asarray(features.codes[own[0].name])
        old = np.flatnonzero(table_row < first)
        for code in np.flatnonzero(table_row >= first):
            best = old[np.argpartition(-(x[old] @ x[code]), NEIGHBOURS)[:NEIGHBOURS]]
            rows[table_row[code] - first] = value.weights[name][table_row[best]].mean(0)
    return rows


def inputs_of(value: Fitted, column, features) -> NDArray[np.floating]:
    if column.table is None:
        x = features.dense[column.name].astype(np.float32)
        return x if column.kernel is None else x @ value.weights[column.kernel]
    codes, table = features.codes[column.name], value.weights[column.table]
    if not isinstance(codes, Ragged):
        return table[flat(codes)]
    out = np.zeros((len(codes.lengths), column.width), np.float32)
    np.add.at(out, codes.segments, table[codes.values])
    return out / np.maximum(codes.lengths, 1)[:, None] if column.mean else out


def taken(value: Fitted, before: Fitted, name: str, first: int, seed: int) -> NDArray[np.floating]:
    """The mean of the rows of those that the same others took, or were taken by, as long as a row is on average."""
    rows, catalog = value.weights[name][first:].copy(), value.catalog
    schema, seen = catalog.schema, catalog.seen
    query, candidate = seen.segments, seen.values
    for side, ids, own, other in (
        ("query", schema.queries, query, candidate),
        ("candidate", schema.candidates, candidate, query),
    ):
        if schema.id_name(side) != name.removeprefix("table/"):
            continue
        code = schema.vocabularies[name].encode(ids.ids)
        row = np.where(code < 0, -1, code + schema.first_row(name))
        table, dim = value.weights[name], value.weights[name].shape[1]
        old = (row[own] >= 0) & (row[own] < first)
        number = other.max() + 1
        sums, count = np.zeros((number, dim)), np.bincount(other[old], minlength=number)
        np.add.at(sums, other[old], table[row[own[old]]])
        means = sums / np.maximum(count, 1)[:, None]
        new = (row[own] >= first) & (count[other] > 0)
        total, times = np.zeros((len(rows), dim)), np.bincount(row[own[new]] - first, minlength=len(rows))
        np.add.at(total, row[own[new]] - first, means[other[new]])
        found = times > 0
        start = total[found] / times[found, None]
        length = np.linalg.norm(table[first - len(rows) : first], axis=1).mean()
        rows[found] = start * length / np.linalg.norm(start, axis=1, keepdims=True)
    return rows


RULES: dict[str, Rule] = {
    "mean": lambda value, before, name, first, seed: value.weights[name][first:],
    "zeros": lambda value, before, name, first, seed: np.zeros_like(value.weights[name][first:]),
    "random": lambda value, before, name, first, seed: (
        TABLE_SCALE * np.random.default_rng(seed).standard_normal(value.weights[name][first:].shape)
    ),
    "features": nearest,
    "taken": taken,
}

if __name__ == "__main__":
    main()
