"""How well a recipe recommends to new, cold, warm and hot queries, and how well it finds such candidates.

    python benchmarks/quality/warmth.py online-retail [--data DIR] [--backend torch]

Trains the set's recipe with seed 0 and evaluates it, and popularity beside it, by warmth. Writes
results/warmth.SET.json.
"""

from __future__ import annotations

import json

from command import loaded, parser
from sets import SETS

from recs_core.evaluation import Measures, answer_popularity, labels_of, slices_of
from recs_core.recipes import recipe

K = 20


def main() -> None:
    """Run one set."""
    options = parser(__doc__, SETS).parse_args()
    data = loaded(options)
    model = recipe(data.recipe, data.train, backend=options.backend, seed=0)
    model.fit(data.train, progress=False)
    found = model.evaluate(data.test, exclude=data.train, by="warmth", k=(K,))
    print(found)
    popular = answer_popularity(model.schema, data.train, data.test, k=K)
    beside = slices_of(popular, "warmth", labels_of("warmth", data.test, model.catalog), Measures((K,)))
    row = {"set": options.set, "recipe": data.recipe, "slices": found.to_json()}
    row["popularity"] = beside.to_json()
    (options.out / f"warmth.{options.set}.json").write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
