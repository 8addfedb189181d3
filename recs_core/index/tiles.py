"""Scores in tiles: blocks of queries on as many threads as the BLAS may use, each multiplying on one thread.

A tile stays in cache between the product and what is done with it, where a whole row of scores would not; and NumPy's
comparisons and sums, which know one thread each, run on all of them. With the BLAS left to its own two threads, tiles
of 1,024 × 200k × 64 take five times the processor seconds, as its threads wait for one another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from recs_core.contract.errors import DataError

Job = TypeVar("Job")

TILE_CANDIDATES = 1020
"""Candidates per tile: 1 MB of scores with as many queries as below, which stays in the cache of one core."""

QUERY_ROWS = 256
"""Queries per tile; fewer where that would leave a thread without work."""

PAIRS = 1024
"""Pairs scored at a time by `exact_scores`: 1 MB of 64 numbers each, which stays in cache."""

SMALLEST = 2.0**-149
"""Of all float32. A product below it is rounded by half of that, however small the vectors are."""

NORM_ROWS = 2048
"""Rows whose norms are taken at a time: 1 MB of 64 numbers each, which stays in cache."""


def run(work: Callable[[Job], None], jobs: Iterable[Job], threads: int) -> None:
    """`work` on every job, on so many threads, the BLAS single-threaded meanwhile. The first error is raised."""
    with _single_threaded_blas():
        if threads <= 1:
            for job in jobs:
                work(job)
            return
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(work, job) for job in jobs]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def num_threads() -> int:
    """How many threads NumPy's BLAS may use now: OPENBLAS_NUM_THREADS and the like are heard. Else the CPUs we have."""
    with _limit.lock:
        return _limit.threads if _limit.users else _current_threads()


def query_blocks(num_queries: int, threads: int) -> list[slice]:
    """Blocks of at most `QUERY_ROWS` queries, small enough that every thread has one."""
    size = max(1, min(QUERY_ROWS, -(-num_queries // threads)))
    return [slice(start, min(start + size, num_queries)) for start in range(0, num_queries, size)]


def tiles(num_candidates: int) -> Iterator[slice]:
    """The candidates of each tile."""
    for start in range(0, num_candidates, TILE_CANDIDATES):
        yield slice(start, min(start + TILE_CANDIDATES, num_candidates))


def exact_scores(
    queries: NDArray[np.floating],
    candidates: NDArray[np.floating],
    query: NDArray[np.integer],
    candidate: NDArray[np.integer],
) -> NDArray[np.float64]:
    """(n,) inner products of the pairs queries[query[i]], candidates[candidate[i]], in float64.

    A BLAS product's last bits depend on where in the matrix a pair stands (OpenBLAS's Haswell kernel rounds the first
    six columns of twelve otherwise than the rest), so equal vectors would not tie. These do not.
    """
    out = np.empty(len(query), np.float64)
    for start in range(0, len(query), PAIRS):
        part = slice(start, start + PAIRS)
        left, right = queries[query[part]].astype(np.float64), candidates[candidate[part]].astype(np.float64)
        np.einsum("ij,ij->i", left, right, out=out[part])
    return out


def rounding(dim: int, dtype: npt.DTypeLike) -> float:
    """The most that a product's rounding can move a score, for vectors of norm 1: (d + 4)·u, whatever the order of
    summation (Higham 2002, §3.1: d·u / (1 − d·u))."""
    return float((dim + 4) * np.finfo(dtype).eps / 2)


def slack(scale: NDArray[np.float64], dim: int) -> NDArray[np.float32]:
    """How far two scores in float32 may be out of order; `scale`: ‖query‖ · the largest ‖candidate‖, of each query."""
    out = (2 * rounding(dim, np.float32) * scale).astype(np.float32)
    return out + np.float32(dim * SMALLEST)


def check_vectors(queries: NDArray[Any], candidates: NDArray[Any]) -> None:
    """Raise `DataError` unless both are (n, d) of one d."""
    for vectors, name in ((queries, "query"), (candidates, "candidate")):
        if vectors.ndim != 2:
            raise DataError(f"{name} vectors must have shape (n, d), got {vectors.shape}; give one row per vector")
    if queries.shape[1] != candidates.shape[1]:
        raise DataError(
            f"query vectors have {queries.shape[1]} numbers, candidate vectors {candidates.shape[1]}; encode both with "
            "the same model"
        )


def norms(vectors: NDArray[np.floating], name: str) -> NDArray[np.float64]:
    """(n,) Euclidean norms. Raises `DataError` naming the first row that holds NaN or infinity, or whose square is
    more than float64 holds."""
    out = np.empty(len(vectors))
    for start in range(0, len(vectors), NORM_ROWS):
        block = vectors[start : start + NORM_ROWS].astype(np.float64)
        np.einsum("ij,ij->i", block, block, out=out[start : start + NORM_ROWS])
    if not np.isfinite(out).all():
        row = int(np.argmin(np.isfinite(out)))
        if np.isfinite(vectors[row]).all():
            raise DataError(f"{name} vector {row} has a norm whose square float64 cannot hold; scale the vectors down")
        raise DataError(f"{name} vector {row} holds NaN or infinity; leave it out, or mend what made it")
    return np.sqrt(out, out=out)


def check_range(query_norm: float, candidate_norm: float, dtype: np.dtype[Any]) -> None:
    """Raise `DataError` if a score could leave the range of `dtype`: |⟨x, y⟩| ≤ ‖x‖·‖y‖, partial sums included."""
    if query_norm * candidate_norm > float(np.finfo(dtype).max) / 2:
        raise DataError(
            f"scores could overflow {dtype}: the largest query has norm {query_norm:.3g}, the largest candidate "
            f"{candidate_norm:.3g}; scale the vectors down"
        )


class _Limit:
    """Who holds the BLAS to one thread now, and how many it had before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.threads = 1
        self.restore: Callable[[], None] = lambda: None


_limit = _Limit()


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """The setting is the process's: the first to enter takes it down, the last to leave puts it back."""
    with _limit.lock:
        if _limit.users == 0:
            _limit.threads = _current_threads()
            _limit.restore = _blas().limit(limits=1).restore_original_limits
        _limit.users += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.users -= 1
            if _limit.users == 0:
                _limit.restore()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _current_threads() -> int:
    threads = [library["num_threads"] for library in _blas().info()]
    return max(threads, default=os.cpu_count() or 1)
