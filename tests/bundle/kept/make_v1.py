"""Made v1/, a bundle of format version 1 with every kind of feature, and v1.json, the oracle's answers to it.

    python tests/bundle/kept/make_v1.py

Kept so that the format stays readable: do not run it again to make a failing test pass.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from recs_core.asked import asked  # noqa: E402
from recs_core.reference.scoring import candidate_vectors, query_vectors  # noqa: E402
from recs_core.reference.topk import top_k  # noqa: E402
from recs_core.reference.towers import embed  # noqa: E402
from tests.bundle.small import every_feature, fitted  # noqa: E402


def main() -> None:
    model = fitted(every_feature())
    model.save(HERE / "v1")
    weights, catalog = model.weights(), model.catalog
    everyone = asked(catalog, model.query, catalog.schema.queries.ids, None, None)
    query = embed(model.query, "query", everyone.features(model.query, catalog), weights)
    candidate = embed(model.candidate, "candidate", catalog.candidate, weights)
    answers = top_k(
        query_vectors(model.retrieval, query),
        candidate_vectors(model.retrieval, candidate, weights["task/bias"], float(weights["task/log_temperature"])),
        5,
    )
    names = catalog.schema.candidates.ids.to_pylist()
    kept = {
        "queries": catalog.schema.queries.ids.to_pylist(),
        "ids": [[names[code] for code in row] for row in answers.ids],
        "scores": answers.scores.round(7).tolist(),
    }
    (HERE / "v1.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
