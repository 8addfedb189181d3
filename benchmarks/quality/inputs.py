"""What side features and the context of a request are worth, beside the same model without them.

    python benchmarks/quality/inputs.py online-retail [--validation] [--seeds 0 1 2] [--only NAME …]
    python benchmarks/quality/inputs.py online-retail-vectors [--validation]
    python benchmarks/quality/inputs.py movielens-100k --data DIR

Every model of a group has the same settings and differs in the features of its towers. Where one of them reads the time
of a request, all are judged by the same questions: a query at one moment, with what it took then. A model that does not
read the time ranks a query's targets once, and each of its questions looks at its own. Differences are to the group's
first model; their intervals draw queries, each with all its questions. Writes results/inputs.SET.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from command import loaded, parser
from descriptions import vectors
from new_candidates import ABOUT, DIM, by_vectors
from numpy.typing import NDArray
from sets import QualitySet

from recs_core.contract.feature_kinds import Clock, Text, Vector
from recs_core.contract.features import Feature
from recs_core.contract.towers import TowerSpec
from recs_core.data.interactions import Interactions
from recs_core.evaluation import QueryMetrics, Ranks, compare, intervals, query_metrics
from recs_core.evaluation.answers import Answers
from recs_core.evaluation.targets import Targets, targets_of
from recs_core.recipes import Recipe, choose
from recs_core.two_tower import TwoTower

K = 20
METRICS = (f"recall@{K}", f"ndcg@{K}")

Models = Mapping[str, Recipe]


def main() -> None:
    """Run one set."""
    asked = parser(__doc__, SETS)
    asked.add_argument("--validation", action="store_true", help="judge by the validation rows, and write nothing")
    asked.add_argument("--only", nargs="+", help="these models, the first of a group among them")
    asked.add_argument("--epochs", type=int, help="by default the recipe's")
    options = asked.parse_args()
    described = options.set == "online-retail-vectors"
    data = loaded(argparse.Namespace(**{**vars(options), "set": "online-retail"}) if described else options)
    if described:
        data = with_descriptions(data)
    train, test = (data.fitted, data.validation) if options.validation else (data.train, data.test)
    groups = []
    for name, models in SETS[options.set](data, train).items():
        chosen = {
            key: specs
            if options.epochs is None
            else replace(specs, training=replace(specs.training, epochs=options.epochs))
            for key, specs in models.items()
            if not options.only or key in options.only
        }
        if chosen:
            groups.append({"name": name, "rows": measured(chosen, train, test, options.backend, options.seeds)})
    row = {
        "set": options.set,
        "seeds": options.seeds,
        "epochs": options.epochs,
        "only": options.only,
        "metrics": METRICS,
        "groups": groups,
    }
    row["compared"] = COMPARED[options.set].format(asked=groups[0]["rows"][0]["asked"])
    if not options.validation:
        (options.out / f"inputs.{options.set}.json").write_text(json.dumps(row, indent=1) + "\n")


def with_descriptions(data: QualitySet) -> QualitySet:
    """The same rows, and vectors of the candidates' descriptions in their side table."""

    def described(rows: Interactions) -> Interactions:
        about = vectors(rows.candidates["description"].to_pylist(), DIM)
        column = pa.FixedSizeListArray.from_arrays(about.ravel(), DIM)
        return replace(rows, candidates=rows.candidates.append_column(ABOUT, column))

    parts = {name: described(getattr(data, name)) for name in ("fitted", "train")}
    return replace(data, **parts)


def measured(
    models: Models, train: Interactions, test: Interactions, backend: str, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """A row for each model."""
    rows: list[dict[str, Any]] = []
    first: QueryMetrics | None = None
    asked = questions(models, train, test)
    for name, specs in models.items():
        found, seconds = [], []
        for seed in seeds:
            model = TwoTower(
                query=specs.query,
                candidate=specs.candidate,
                retrieval=specs.retrieval,
                optimizer=specs.optimizer,
                training=specs.training,
                backend=backend,
                seed=seed,
            )
            began = time.perf_counter()
            model.fit(train, progress=False)
            seconds.append(time.perf_counter() - began)
            found.append(judged(model.answer(test, exclude=train, k=None), asked))
            print(f"{name}, seed {seed}: {found[-1].mean()}, {seconds[-1]:.0f} s", flush=True)
        mean = replace(found[0], values={n: np.mean([one.values[n] for one in found], 0) for n in METRICS})
        first = mean if first is None else first
        row = {"name": name, "metrics": intervals(mean), "by_seed": [[one.mean()[n] for n in METRICS] for one in found]}
        row["difference"] = compare(first, mean) if mean is not first else None
        rows.append({**row, "seconds": float(np.mean(seconds)), "asked": len(asked.queries)})
        print(row, flush=True)
    return rows


def questions(models: Models, train: Interactions, test: Interactions) -> Targets:
    """What the test asks: of the first model that reads the most context."""
    from recs_core.data.schema import Schema

    schemas = [Schema.learn(specs.query, specs.candidate, train) for specs in models.values()]
    return targets_of(max(schemas, key=lambda schema: len(schema.of_request)), test, train)


def judged(answers: Answers, asked: Targets) -> QueryMetrics:
    """The metrics of each query: means over its questions, each of which weighs as much as any."""
    _, row = np.unique(asked.of_rows, return_index=True)  # a test row of each target
    at = answers.asked.of_rows[row]
    ranks = answers.ranks
    found = Ranks(ranks.above[at], ranks.tied[at], asked.codes.offsets, ranks.num_candidates, ranks.targets[at])
    return by_query(query_metrics(found, k=[K]), asked)


def by_query(found: QueryMetrics, asked: Targets) -> QueryMetrics:
    """Questions of a query together, so that a bootstrap draws queries."""
    query = asked.queries.dictionary_encode().indices.to_numpy()
    number = np.bincount(query)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(query, values)

    return QueryMetrics(
        {name: total(found.values[name]) / number for name in METRICS},
        total(found.num_targets).astype(np.int64),
        np.arange(len(number)),
        {name: number for name in METRICS},
    )


def _online_retail(data: QualitySet, train: Interactions) -> Mapping[str, Models]:
    """Time and country, by interaction; the recipe without context beside them, by query."""
    full = choose("features", train, context=["time"])
    neither = _without(full, "country", "time")
    return {
        "time and country": {
            "neither": neither,
            "country": _without(full, "time"),
            "Clock": _without(full, "country"),
            "Clock and country": full,
            "Clock without its age": _with(neither, [Clock("time", parts=("hour", "weekday"))]),
            "`features` without context, by query": choose("features", train),
        }
    }


def _described(data: QualitySet, train: Interactions) -> Mapping[str, Models]:
    """Vectors of the descriptions, beside the id and in its place, for candidates that training knows."""
    full = choose("features", replace(train, candidates=train.candidates.drop_columns([ABOUT])))
    given = Vector(ABOUT, dim=64, normalise=True)  # as the recipe declares a column of vectors
    apart = by_vectors(replace(train, candidates=train.candidates.drop_columns([ABOUT])))
    without_words = [each for each in full.candidate.features if not isinstance(each, Text)]
    return {
        "vectors": {
            "recipe `features`: the id and the words": full,
            "the id, the words and vectors": _with(full, (), [given]),
            "the id and vectors": replace(full, candidate=replace(full.candidate, features=[*without_words, given])),
            "vectors alone": _with(replace(full, **apart), (), [given]),
        }
    }


def _movielens(data: QualitySet, train: Interactions) -> Mapping[str, Models]:
    """Age, gender, occupation and genres, beside ids and beside the past."""
    ids, features = choose("ids", train), choose("features", train)
    users = [each for each in features.query.features if each.name in ("age", "gender", "occupation")]
    genres = [each for each in features.candidate.features if each.name == "genres"]
    layered = replace(ids, query=_layered(ids.query), candidate=_layered(ids.candidate))
    past = _only(features, "title", users=(), candidates=("title",))
    return {
        "ids": {
            "recipe `ids`": ids,
            "a layer": layered,
            "a layer; age, gender, occupation": _with(layered, users),
            "a layer; genres": _with(layered, (), genres),
            "a layer; all four": _with(layered, users, genres),
        },
        "past": {
            "recipe `features` without any": past,
            "age, gender, occupation": _with(past, users),
            "genres": _with(past, (), genres),
            "all four": _with(past, users, genres),
            "recipe `features`": features,
        },
    }


SETS: Mapping[str, Callable[[QualitySet, Interactions], Mapping[str, Models]]] = {
    "online-retail": _online_retail,
    "online-retail-vectors": _described,
    "movielens-100k": _movielens,
}


COMPARED = {
    "online-retail": "{asked:,} questions: a customer at one moment, with what was bought then. A model that does not "
    "read the time ranks once per customer, and each question looks at its own candidates in that ranking; so all are "
    "judged by the same questions, without the training items, each weighing the same. What is not said to be by query "
    "is one recipe, `features` with context, by interaction, and differs in what the query tower reads; all have the "
    "description and the price on the other side. The intervals draw customers, each with all its questions.",
    "online-retail-vectors": "{asked:,} customers, on the split of the set. All are the recipe `features`, by query, "
    "and differ in what the candidate tower reads beside the price: the vectors are made of the descriptions alone "
    "(`descriptions.py`), and where there is no id, the history has a table of its own.",
    "movielens-100k": "{asked:,} users, on the split and the ranking of the section above. Rows of a table have the "
    "same settings and differ in what the towers read.",
}
"""What the page says of the comparison."""


def _without(specs: Recipe, *names: str) -> Recipe:
    kept = [feature for feature in specs.query.features if feature.name not in names]
    return replace(specs, query=replace(specs.query, features=kept))


def _only(specs: Recipe, past: str, users: Sequence[str], candidates: Sequence[str]) -> Recipe:
    query = [feature for feature in specs.query.features if feature.name in (past, *users)]
    candidate = [feature for feature in specs.candidate.features if feature.name in candidates]
    return replace(
        specs, query=replace(specs.query, features=query), candidate=replace(specs.candidate, features=candidate)
    )


def _with(specs: Recipe, query: Sequence[Feature], candidate: Sequence[Feature] = ()) -> Recipe:
    return replace(
        specs,
        query=replace(specs.query, features=[*specs.query.features, *query]),
        candidate=replace(specs.candidate, features=[*specs.candidate.features, *candidate]),
    )


def _layered(tower: TowerSpec) -> TowerSpec:
    return replace(tower, layers=[64])


if __name__ == "__main__":
    main()
