"""What else a user could run: each peer is fitted on a problem's training rows and returns scores by query.

Settings that a peer needs are chosen on the validation part, from the few of its grid, as the recipes' own were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from problem import Problem, Scores
from threadpoolctl import threadpool_limits

from recs_core.evaluation import popularity, recent_popularity

EASE_UP_TO = 15_000
"""Candidates: EASE inverts a matrix of their square, 1.8 GB at this size."""


@dataclass(frozen=True)
class Peer:
    """`fit(problem, **setting)` returns scores; `grid` holds the settings to choose from."""

    name: str
    fit: Callable[..., Scores]
    grid: Sequence[Mapping[str, Any]] = ({},)


def peers(problem: Problem) -> tuple[list[Peer], list[str]]:
    """The peers that this problem's size and columns allow, and a line on each that is left out."""
    chosen, left_out = [Peer("popularity", plain_popularity)], []
    if problem.train.timestamps is None:
        left_out.append("recent popularity: no timestamps")
    else:
        chosen.append(Peer("recent popularity", recent, [{"half_life_days": days} for days in (7, 21, 60)]))
    chosen.append(Peer("item-kNN", item_knn, [{"neighbours": n, "shrink": s} for n in (50, 200) for s in (0, 20)]))
    if problem.matrix.shape[1] <= EASE_UP_TO:
        chosen.append(Peer("EASE", ease, [{"l2": l2} for l2 in (100, 300, 1000)]))
    else:
        left_out.append(f"EASE: inverts a matrix of {problem.matrix.shape[1]:,} squared")
    weights = [{"alpha": alpha, "regularization": r} for alpha in (1, 10) for r in (1.0, 10.0, 100.0)]
    chosen.append(Peer("iALS (implicit)", ials, weights))
    chosen.append(Peer("BPR (implicit)", bpr, [{"learning_rate": rate} for rate in (0.01, 0.05)]))
    chosen.append(Peer("TFRS, as its tutorial", tfrs_tutorial))
    return chosen, left_out


def plain_popularity(problem: Problem) -> Scores:
    """Training rows of each candidate."""
    return _same(popularity(problem.train.candidate_codes, problem.matrix.shape[1]))


def recent(problem: Problem, half_life_days: float) -> Scores:
    """The same, a row weighing half as much for every `half_life_days` of age."""
    train = problem.train
    assert train.timestamps is not None
    corpus = problem.matrix.shape[1]
    return _same(recent_popularity(train.candidate_codes, train.timestamps, corpus, half_life_days=half_life_days))


def item_knn(problem: Problem, neighbours: int, shrink: float) -> Scores:
    """Cosine of the candidates' columns, the best `neighbours` of each: Σ over a query's candidates.

    Sarwar et al. 2001; s(i, j) = n_ij / (√n_i √n_j + shrink).
    """
    matrix = problem.matrix
    together = (matrix.T @ matrix).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    norm = np.sqrt(np.asarray(matrix.sum(0)).ravel())
    rows = np.repeat(np.arange(len(norm)), np.diff(together.indptr))
    together.data = (together.data / (norm[rows] * norm[together.indices] + shrink)).astype(np.float32)
    nearest = _best_of_each_row(together, neighbours)
    return lambda queries: (matrix[queries] @ nearest.T).toarray()


def ease(problem: Problem, l2: float) -> Scores:
    """Linear autoencoder without its diagonal: B = I − P / diag(P), P = (XᵀX + l2·I)⁻¹ (Steck 2019, eq. 8)."""
    matrix = problem.matrix
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += l2
    inverse = np.linalg.inv(gram)
    weights = (-inverse / np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0)
    return lambda queries: matrix[queries] @ weights


def ials(problem: Problem, alpha: float, regularization: float) -> Scores:
    """`implicit`'s alternating least squares, 64 dims, 15 sweeps (Hu, Koren & Volinsky 2008)."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(64, regularization, alpha, iterations=15, random_state=0)
    with threadpool_limits(1, "blas"):  # it has threads of its own
        model.fit(problem.matrix, show_progress=False)
    return _dot(model.user_factors, model.item_factors)


def bpr(problem: Problem, learning_rate: float) -> Scores:
    """`implicit`'s Bayesian personalised ranking, 64 dims, its default 100 epochs (Rendle et al. 2009)."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(64, learning_rate, random_state=0)
    model.fit(problem.matrix, show_progress=False)
    return _dot(model.user_factors, model.item_factors)


def tfrs_tutorial(problem: Problem) -> Scores:
    """The basic retrieval tutorial of TensorFlow Recommenders: 32 dims, Adagrad 0.1, batch 8192, 3 epochs."""
    from recs_core_tensorflow import tf, tfrs

    tf.keras.utils.set_random_seed(0)
    users, items = (tf.keras.layers.Embedding(size, 32) for size in problem.matrix.shape)

    class Tutorial(tfrs.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items, self.task = users, items, tfrs.tasks.Retrieval()

        def compute_loss(self, features: Any, training: bool = False) -> Any:
            user, item = features
            return self.task(self.users(user), self.items(item), compute_metrics=False)

    model = Tutorial()
    model.compile(tf.keras.optimizers.Adagrad(0.1))
    rows = (problem.train.query_codes, problem.train.candidate_codes)
    data = tf.data.Dataset.from_tensor_slices(rows).shuffle(100_000, seed=0).batch(8192).cache()
    model.fit(data, epochs=3, verbose=0)
    return _dot(users.get_weights()[0], items.get_weights()[0])


def _same(scores: np.ndarray) -> Scores:
    return lambda queries: np.broadcast_to(scores, (len(queries), len(scores)))


def _dot(queries: np.ndarray, candidates: np.ndarray) -> Scores:
    return partial(_product, queries, candidates)


def _product(queries: np.ndarray, candidates: np.ndarray, asked: np.ndarray) -> np.ndarray:
    return queries[asked] @ candidates.T


def _best_of_each_row(matrix: Any, k: int) -> Any:
    """The k largest values of each row; fewer where it has fewer."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, rows))
    place = np.arange(len(rows)) - matrix.indptr[:-1][rows]
    kept = order[place < k]
    return sp.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), matrix.shape)
