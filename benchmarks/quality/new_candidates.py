"""What the recipe `features` makes of candidates that no training row holds, on online-retail or movielens-100k.

    python benchmarks/quality/new_candidates.py online-retail [--data DIR] [--seeds 0 1 2]

A tenth of the candidates, drawn by the seed, leave the training rows altogether. Each query that took some of them in
the data ranks them among themselves by their features alone. Writes results/new-candidates.SET.json.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from command import loaded, parser
from numpy.typing import NDArray
from problem import offsets_of

from recs_core.contract.batch import Ragged
from recs_core.data.interactions import Interactions
from recs_core.evaluation import metrics, ranks
from recs_core.recipes import recipe

K = 20


def main() -> None:
    """Run one set."""
    options = parser(__doc__, ["online-retail", "movielens-100k"]).parse_args()
    data = loaded(options).train
    found = [measure(data, seed, options.backend) for seed in options.seeds]
    row = {"set": options.set, "seeds": options.seeds, "by_seed": found}
    row |= {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    print({name: row[name] for name in found[0]})
    (options.out / f"new-candidates.{options.set}.json").write_text(json.dumps(row, indent=1) + "\n")


def measure(data: Interactions, seed: int, backend: str) -> dict[str, Any]:
    """Recall@20 among the new candidates, and what chance gives."""
    corpus = len(data.candidate_ids)
    new = np.sort(np.random.default_rng(seed).permutation(corpus)[: corpus // 10])
    is_new = np.zeros(corpus, bool)
    is_new[new] = True
    train, unseen = (data.take(keep[data.candidate_codes]) for keep in (~is_new, is_new))
    model = recipe("features", train, backend=backend, seed=seed)
    model.fit(train, progress=False)
    vectors = model.encode_candidate(features=data.candidates.take(pa.array(new)))
    asked = np.unique(unseen.query_codes)
    queries = model.encode_query(data.query_ids.decode(asked))
    found = ranks(queries, vectors, _targets(unseen, asked, new))
    return {"recall": metrics(found, k=[K])[f"recall@{K}"], "chance": K / len(new), "candidates": len(new)}


def _targets(unseen: Interactions, asked: NDArray[np.integer], new: NDArray[np.integer]) -> Ragged:
    """Places among the new candidates of what each query took."""
    places = np.searchsorted(asked, unseen.query_codes), np.searchsorted(new, unseen.candidate_codes)
    pairs = np.unique(np.stack(places, 1), axis=0)
    return Ragged(pairs[:, 1].astype(np.int32), offsets_of(pairs[:, 0], len(asked)))


if __name__ == "__main__":
    main()
