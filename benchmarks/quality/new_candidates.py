"""What can be made of candidates that no training row holds, on online-retail or movielens-100k.

    python benchmarks/quality/new_candidates.py online-retail [--data DIR] [--seeds 0 1 2] [--validation]
    python benchmarks/quality/new_candidates.py online-retail --vectors

A tenth of the candidates, drawn by the seed, leave the training rows altogether. Each query that took some of them in
the data ranks them among themselves by their features alone: by default with the recipe `features`. `--vectors`: the
candidate tower reads vectors of descriptions (descriptions.py) in place of their words and of its id, and the history
has a table of its own; all else stays the recipe's. `--validation`: other candidates leave, none that a test's seed
draws. Writes results/new-candidates.SET.json, or new-candidates.SET.vectors.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from command import loaded, parser
from descriptions import vectors
from numpy.typing import NDArray
from problem import offsets_of

from recs_core.contract.batch import Ragged
from recs_core.contract.feature_kinds import History, Text
from recs_core.contract.towers import TowerSpec
from recs_core.data.interactions import Interactions
from recs_core.evaluation import metrics, ranks
from recs_core.recipes import choose, recipe

K = 20
TEST_SEEDS = (0, 1, 2)
DIM = 128
ABOUT = "about"
READ = {
    False: "its id and side features, as the recipe has it",
    True: f"vectors of descriptions, {DIM} wide, in place of the words and the id",
}
"""What the page says of the candidate tower, without and with vectors."""


def main() -> None:
    """Run one set."""
    asked = parser(__doc__, ["online-retail", "movielens-100k"])
    asked.add_argument("--vectors", action="store_true", help="read vectors of descriptions; of online-retail")
    asked.add_argument("--validation", action="store_true", help="let other candidates leave, and write nothing")
    options = asked.parse_args()
    data = loaded(options).train
    if options.vectors:
        about = vectors(data.candidates["description"].to_pylist(), DIM)
        column = pa.FixedSizeListArray.from_arrays(about.ravel(), DIM)
        data = replace(data, candidates=data.candidates.append_column(ABOUT, column))
    found = []
    for seed in options.seeds:
        new = drawn(len(data.candidate_ids), seed, validation=options.validation)
        found.append(measure(data, new, seed, options.backend, with_vectors=options.vectors))
        print(found[-1], flush=True)
    row = {"set": options.set, "read": READ[options.vectors], "seeds": options.seeds, "by_seed": found}
    row |= {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    print({name: row[name] for name in found[0]})
    if not options.validation:
        kind = ".vectors" if options.vectors else ""
        (options.out / f"new-candidates.{options.set}{kind}.json").write_text(json.dumps(row, indent=1) + "\n")


def drawn(corpus: int, seed: int, *, validation: bool) -> NDArray[np.integer]:
    """The codes of a tenth of the candidates; for validation, none that a test draws."""
    tested = [np.random.default_rng(each).permutation(corpus)[: corpus // 10] for each in (*TEST_SEEDS, seed)]
    if not validation:
        return np.sort(tested[-1])
    left = np.setdiff1d(np.arange(corpus), np.concatenate(tested[:-1]))
    return np.sort(np.random.default_rng(100 + seed).permutation(left)[: corpus // 10])


def measure(
    data: Interactions, new: NDArray[np.integer], seed: int, backend: str, *, with_vectors: bool
) -> dict[str, Any]:
    """Recall@20 among the new candidates, and what chance gives."""
    is_new = np.zeros(len(data.candidate_ids), bool)
    is_new[new] = True
    train, unseen = (data.take(keep[data.candidate_codes]) for keep in (~is_new, is_new))
    model = recipe("features", train, backend=backend, seed=seed, **(by_vectors(train) if with_vectors else {}))
    model.fit(train, progress=False)
    encoded = model.encode_candidate(features=data.candidates.take(pa.array(new)))
    asked = np.unique(unseen.query_codes)
    queries = model.encode_query(data.query_ids.decode(asked))
    found = ranks(queries, encoded, _targets(unseen, asked, new))
    return {"recall": metrics(found, k=[K])[f"recall@{K}"], "chance": K / len(new), "candidates": len(new)}


def by_vectors(train: Interactions) -> Mapping[str, TowerSpec]:
    """The recipe's towers, but that candidates are told apart by what they are like alone, not by id or words."""
    towers = choose("features", train)
    own = train.candidate_name
    candidate = [each for each in towers.candidate.features if each.name != own and not isinstance(each, Text)]
    query = [replace(each, share=None) if isinstance(each, History) else each for each in towers.query.features]
    return {
        "query": replace(towers.query, features=query),
        "candidate": replace(towers.candidate, features=candidate),
    }


def _targets(unseen: Interactions, asked: NDArray[np.integer], new: NDArray[np.integer]) -> Ragged:
    """Places among the new candidates of what each query took."""
    places = np.searchsorted(asked, unseen.query_codes), np.searchsorted(new, unseen.candidate_codes)
    pairs = np.unique(np.stack(places, 1), axis=0)
    return Ragged(pairs[:, 1].astype(np.int32), offsets_of(pairs[:, 0], len(asked)))


if __name__ == "__main__":
    main()
