"""An index for a bundle: chosen by measuring, built, and kept inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recs_core.bundle.saving import keep_index
from recs_core.bundle.stated import IndexStated
from recs_core.contract.errors import ConfigError
from recs_core.contract.manifest import IndexInfo
from recs_core.index.made import Made
from recs_core.index.tuning import Measured, Question
from recs_core.loading import load
from recs_core.plugin.manager import list_indexes
from recs_core.recommender import Recommender

QUERIES = 1000
"""Training queries that an index is measured by."""


@dataclass(frozen=True)
class Tuning:
    """What was tried, exact search first; `best`: the quickest of those that reach `recall`."""

    recall: float
    tried: tuple[Measured, ...]

    @property
    def best(self) -> Measured:
        """Exact search reaches any recall, so there is one."""
        return max((one for one in self.tried if one.recall >= self.recall), key=lambda one: one.per_second)


def tune(
    path: str | Path,
    specs: Sequence[str] = (),
    *,
    recall: float = 0.95,
    k: int = 10,
    queries: int = QUERIES,
    seed: int = 0,
    told: Callable[[Measured], None] = lambda _: None,
) -> Tuning:
    """Measure indexes on a bundle's vectors: recall of the exact best `k`, and queries per second, one at a time.

    `specs`: by default every installed index that is approximate and that a bundle can hold; options that a spec leaves
    open are tried with every value of the manifest's `tuned`. `queries`: how many training queries are asked, drawn by
    `seed`, with what training saw of them and nothing excluded. `told`: called with each as it is measured. Raises
    `ConfigError` for a recall outside 0 … 1, `BundleError` as `recs.load`, and as `load_index`.
    """
    if not 0 < recall <= 1:
        raise ConfigError(f"recall is a share, above 0 and at most 1, got {recall!r}")
    question = _question(_model(path), k, queries, seed)
    names = specs or [row.name for row in list_indexes() if row.info and not row.problem and _can_be_kept(row.info)]
    tried: list[Measured] = []
    for spec in dict.fromkeys(("exact", *names)):
        for measured in question.tried(spec, "recs index tune"):
            tried.append(measured)
            told(measured)
    return Tuning(recall, tuple(tried))


def build(path: str | Path, spec: str, *, k: int = 10, queries: int = QUERIES, seed: int = 0) -> Measured:
    """Build an index of a bundle's vectors and keep it inside, under the bundle's digests; measured as by `tune`.

    `recs.load(path, runtime="numpy")` and `recs serve` then use it. The vectors are stored with it. Raises
    `UnsupportedFeature` for an index that cannot be stored, `BundleError` as `recs.load`, and as `load_index`.
    """
    model = _model(path)
    question = _question(model, k, queries, seed)
    index, seconds = question.built(spec, "recs index build")
    made = Made.of(index, "recs index build")
    measured = question.measure(index, made.spec, seconds)
    stated = IndexStated(made.spec, made.provider, measured.recall, measured.k, measured.queries)
    keep_index(path, made, stated, model.encode_candidate())
    return measured


def _can_be_kept(info: IndexInfo) -> bool:
    return not info.is_exact and info.capabilities.get("storable") is True


def _model(path: str | Path) -> Recommender:
    return load(path, runtime="numpy", index="exact")


def _question(model: Recommender, k: int, number: int, seed: int) -> Question:
    vectors = model.encode_candidate().astype(np.float32, copy=False)
    return Question.of(vectors, _asked(model, number, seed), k)


def _asked(model: Recommender, number: int, seed: int) -> NDArray[np.float32]:
    """Vectors of training queries, asked by a request of which nothing is known."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigError(f"queries is a whole number ≥ 1, got {number!r}")
    known = model.schema.queries.ids
    rows = np.sort(np.random.default_rng(seed).permutation(len(known))[:number])
    return model.encode_query(known.take(rows), context=model.schema.blank_request).astype(np.float32, copy=False)
