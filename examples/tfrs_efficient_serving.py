"""TFRS's tutorial "efficient serving", moved: an index of faiss in ScaNN's place, beside the exact one.

pip install faiss-cpu && python examples/tfrs_efficient_serving.py [the folder of MovieLens-100K]
"""

import sys
import tempfile
from functools import partial
from math import isqrt
from timeit import timeit

import faiss
import numpy as np
from recs_core_tensorflow import tf
from tfrs_basic_retrieval import trained
from tfrs_movies import ratings

import recs_core as recs
from recs_core.index import Candidates, ExactIndex, plan_search
from recs_core.plugin import IndexInfo, No

LARGER = 300  # as in the tutorial, a corpus so many times as large: movies again, moved at random


class Leaves:
    """Candidates in leaves around centres, of which a query looks into the nearest tenth."""

    no = dict.fromkeys(
        ("exclude", "allow", "memory_map", "float64_scores"), No("the core does it around what is found")
    )
    info = IndexInfo("leaves", "tfrs_efficient_serving:Leaves", "IVF of faiss", recall_floor=0.5, capabilities=no)

    def build(self, vectors: np.ndarray) -> None:
        self.candidates = Candidates.of(vectors)
        leaves = max(1, min(isqrt(len(vectors)), len(vectors) // 39))  # faiss wants 39 vectors for each
        self.found = faiss.index_factory(vectors.shape[1], f"IVF{leaves},Flat", faiss.METRIC_INNER_PRODUCT)
        self.found.nprobe = 1 + leaves // 10
        self.found.train(vectors)
        self.found.add(vectors)

    def search(self, queries: np.ndarray, k: int, *, exclude: None = None, allow: None = None) -> recs.TopK:
        plan = plan_search(self.candidates, queries, k)
        scores, positions = self.found.search(plan.queries, plan.k)
        return recs.TopK(positions, np.where(positions < 0, np.float32(-np.inf), scores))


def main() -> None:
    """Print how much of the best 10 the approximate index finds, and the time of a query; serve with it."""
    rows = ratings(*sys.argv[1:])
    train = recs.Interactions.from_table(rows, query="user_id", candidate="movie_title", timestamp="timestamp")
    tf.keras.utils.set_random_seed(42)
    for way, model in trained(train).items():
        queries, best = model.encode_query(train.query_ids.ids), None
        lots = np.tile(model.encode_candidate(), (LARGER, 1))
        moved = lots[len(train.candidate_ids) :]
        moved *= np.random.default_rng(0).random(moved.shape, np.float32)
        for index in (ExactIndex(), Leaves()):
            index.build(lots)
            found = index.search(queries, 10).ids
            best = found if best is None else best
            recall = np.mean([len(np.intersect1d(*both)) / 10 for both in zip(best, found, strict=True)])
            ms = timeit(partial(index.search, queries[:1], 10), number=20) / 20 * 1000
            print(f"{way}   {index.info.name}   recall of the best 10: {recall:.3f}   {ms:.1f} ms a query")
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        served = recs.load(folder, runtime="numpy", index=Leaves())  # the declared one, with no TensorFlow
        print("user 42", *served.recommend(["42"], k=3, exclude="seen").ids[0], sep=" | ")


if __name__ == "__main__":
    main()
