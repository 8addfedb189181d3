"""TFRS's exact retrieval layers, with the promises that they lack.

`BruteForce` and `Streaming` are `tfrs.layers.factorized_top_k` layers to use in their place: ids are unique, exclusions
never come back, and where fewer than k candidates remain the rest is padded. `BruteForceIndex` and `StreamingIndex` are
indexes of the core's protocol.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, NotFitted
from recs_core.contract.protocols import TopK
from recs_core.index import Candidates, plan_search
from recs_core.plugin import IndexInfo
from recs_core_tensorflow import plugin
from recs_core_tensorflow.environment import refuse_forked, tf, tfrs

NO_STRING = ""
NO_INTEGER = -1
"""What stands for a missing id, beside a score of − inf."""

SHOWN = 5
STREAM_ROWS = 4096
"""Candidates per block of the streaming index."""
SCORES_HELD = 2**24
"""Scores that the brute-force index holds at a time: 64 MB."""
STREAM_QUERIES = 4096


class _Promises:
    """What both layers share. The order of a result is score, then place in the index."""

    _k: int
    built: bool
    query_model: Any

    def query_with_exclusions(self, queries: Any, exclusions: Any, k: Any = None) -> tuple[Any, Any]:
        """The best k of each query that are not among its exclusions: scores (Q, k), ids (Q, k).

        `exclusions` (Q, E): ids; pad a short row with ids that are not in the index, as "" or −1. TFRS takes 100,000
        off the score of an excluded candidate, which then still comes back where fewer than k others are left, or where
        it scored higher than that. A saved layer keeps this function for any number of queries, exclusions and any k;
        with a `query_model`, for queries of the shapes it has seen.
        """
        k = self._k if k is None else k
        exclusions = tf.convert_to_tensor(exclusions)
        scores, ids = self.call(queries, k=k + tf.shape(exclusions)[1])  # type: ignore[attr-defined]
        same = tf.equal(ids[:, :, None], tf.cast(exclusions, ids.dtype)[:, None])  # in a v1 graph == is identity
        excluded = tf.reduce_any(same, axis=2)
        scores = tf.where(excluded, tf.constant(-np.inf, scores.dtype), scores)
        scores, places = tf.math.top_k(scores, k)
        ids = tf.gather(ids, places, batch_dims=1)
        return scores, tf.where(tf.math.is_inf(scores) & (scores < 0), _missing(ids.dtype), ids)

    def _trace(self, dim: int | None, ids: Any) -> None:
        """Forget graphs over what was indexed before, and make those that a SavedModel keeps."""
        method = type(self).query_with_exclusions

        def ask(queries: Any, exclusions: Any, k: Any = None) -> tuple[Any, Any]:
            if not self.built:  # Keras saves no layer that was never called itself
                tf.function(self.__call__).get_concrete_function(queries)  # type: ignore[operator]
            return method(self, queries, exclusions, k)  # a tf.function of the method itself would not hold the layer

        function = tf.function(ask)
        if self.query_model is None:
            vectors, excluded = tf.TensorSpec([None, dim], tf.float32), tf.TensorSpec([None, None], ids)
            for k in (None, tf.TensorSpec([], tf.int32)):
                function.get_concrete_function(vectors, excluded, k)
        self.query_with_exclusions = function  # type: ignore[method-assign]


def _missing(dtype: Any) -> Any:
    return tf.constant(NO_STRING if dtype == tf.string else NO_INTEGER, dtype)


def _padded(scores: Any, ids: Any, k: Any) -> tuple[Any, Any]:
    """Filled up to k columns."""
    lacking = [[0, 0], [0, tf.maximum(0, k - tf.shape(scores)[1])]]
    return (
        tf.pad(scores, lacking, constant_values=tf.constant(-np.inf, scores.dtype)),
        tf.pad(ids, lacking, constant_values=_missing(ids.dtype)),
    )


def refuse_duplicates(ids: NDArray[Any]) -> None:
    """Raise `DataError` naming ids that appear more than once."""
    unique, counts = np.unique(ids, return_counts=True)
    repeated = [value.decode() if isinstance(value, bytes) else value for value in unique[counts > 1].tolist()]
    if repeated:
        more = f" and {len(repeated) - SHOWN:,} more" if len(repeated) > SHOWN else ""
        names = ", ".join(map(repr, repeated[:SHOWN]))
        raise DataError(f"ids of an index must be unique, but {names}{more} appear more than once")


class BruteForce(_Promises, tfrs.layers.factorized_top_k.BruteForce):
    """`tfrs.layers.factorized_top_k.BruteForce` that keeps the promises of this module."""

    def index(self, candidates: Any, identifiers: Any = None) -> BruteForce:
        """Index (n, d) candidates under their ids, by default their places. `DataError` for an id given twice."""
        if identifiers is not None:
            refuse_duplicates(np.asarray(identifiers))
        super().index(candidates, identifiers)
        self._trace(self._candidates.shape[1], self._identifiers.dtype)
        return self

    def call(self, queries: Any, k: Any = None) -> tuple[Any, Any]:
        """Scores (Q, k) and ids (Q, k), padded where the index holds fewer than k."""
        k = self._k if k is None else k
        if self._candidates is None:
            raise NotFitted("BruteForce has no candidates yet; call index(…) or index_from_dataset(…) first")
        scores, ids = super().call(queries, k=tf.minimum(k, self._candidates.shape[0]))
        return _padded(scores, ids, k)


class Streaming(_Promises, tfrs.layers.factorized_top_k.Streaming):
    """`tfrs.layers.factorized_top_k.Streaming` that keeps the promises of this module."""

    def index_from_dataset(self, candidates: Any) -> Streaming:
        """Stream over batches of (ids, candidates) or candidates. Raises `DataError` for an id given twice."""
        super().index_from_dataset(candidates)
        if isinstance(candidates.element_spec, tuple):
            ids = [batch for batch in candidates.map(lambda ids, _: ids).as_numpy_iterator()]
            refuse_duplicates(np.concatenate(ids))
        *ids_spec, vectors_spec = tf.nest.flatten(candidates.element_spec)
        self._trace(vectors_spec.shape[-1], ids_spec[0].dtype if ids_spec else tf.int32)
        return self

    def call(self, queries: Any, k: Any = None) -> tuple[Any, Any]:
        """Scores (Q, k) and ids (Q, k), padded where the stream holds fewer than k."""
        k = self._k if k is None else k
        scores, ids = super().call(queries, k=k)
        return _padded(scores, ids, k)


class _LayerIndex:
    """An index of the core's protocol over one of TFRS's layers, which is never asked for more than it holds."""

    info: IndexInfo

    def __init__(self) -> None:
        self._candidates: Candidates | None = None
        self._layer: Any = None

    def build(self, vectors: NDArray[np.float32]) -> None:
        """Index (n, d) vectors; position = row."""
        refuse_forked()
        self._candidates = Candidates.of(vectors)
        self._layer = self._searcher(vectors)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exclude: Ragged | None = None,
        allow: NDArray[np.integer] | None = None,
    ) -> TopK:
        """Best k of n positions, (Q, min(k, n)): score descending, then position ascending; −1 and − inf fill up."""
        refuse_forked()
        plan = plan_search(self._candidates, queries, k, exclude, allow)
        queries, k, exclude = np.ascontiguousarray(plan.queries), plan.k, plan.exclude
        vectors, allowed = plan.candidates.vectors, plan.allowed
        layer = self._layer if allowed is None else self._searcher(vectors[allowed])
        allowed = np.arange(len(vectors)) if allowed is None else allowed
        ids = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        size = self._queries_at_a_time(len(allowed))
        for start in range(0, len(queries) if len(allowed) else 0, size):
            rows = np.arange(start, min(start + size, len(queries)))
            ids[rows], scores[rows] = _block(layer, queries[rows], k, exclude and exclude.take(rows), allowed)
        return TopK(ids, scores)

    def _searcher(self, vectors: NDArray[np.float32]) -> Any:
        """A function of (queries, k) that gives scores and places among `vectors`, best first."""
        raise NotImplementedError

    def _queries_at_a_time(self, num_candidates: int) -> int:
        raise NotImplementedError


def _block(
    layer: Any, queries: NDArray[np.float32], k: int, exclude: Ragged | None, allowed: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Asks for as many more as a query excludes, then drops those: k of them are left, wherever there are k."""
    most = int(exclude.lengths.max(initial=0)) if exclude is not None else 0
    found = min(k + most, len(allowed))
    scores, places = (np.asarray(tensor) for tensor in layer(queries, found))
    positions = allowed[places]
    if exclude is not None:
        rows = np.broadcast_to(np.arange(len(queries))[:, None], positions.shape)
        dropped = exclude.holds(rows, positions)
        order = np.argsort(dropped, axis=1, kind="stable")
        positions = np.take_along_axis(np.where(dropped, -1, positions), order, axis=1)
        scores = np.take_along_axis(np.where(dropped, np.float32(-np.inf), scores), order, axis=1)
    lacking = ((0, 0), (0, max(0, k - found)))
    return (
        np.pad(positions[:, :k], lacking, constant_values=-1),
        np.pad(scores[:, :k], lacking, constant_values=-np.inf),
    )


class BruteForceIndex(_LayerIndex):
    """`tfrs-brute-force`."""

    info = plugin.INDEXES[0]

    def _searcher(self, vectors: NDArray[np.float32]) -> Any:
        if not len(vectors):
            return None
        return _traced(tfrs.layers.factorized_top_k.BruteForce().index(tf.constant(vectors)), vectors.shape[1])

    def _queries_at_a_time(self, num_candidates: int) -> int:
        return max(1, SCORES_HELD // max(num_candidates, 1))


class StreamingIndex(_LayerIndex):
    """`tfrs-streaming`."""

    info = plugin.INDEXES[1]

    def _searcher(self, vectors: NDArray[np.float32]) -> Any:
        if not len(vectors):
            return None
        layer = tfrs.layers.factorized_top_k.Streaming().index_from_dataset(_stream(vectors))
        return _traced(layer, vectors.shape[1])

    def _queries_at_a_time(self, num_candidates: int) -> int:
        return STREAM_QUERIES


def _stream(vectors: NDArray[np.float32]) -> Any:
    """Blocks of (places, vectors)."""

    def block(start: Any) -> tuple[Any, Any]:
        places = tf.range(start, tf.minimum(start + STREAM_ROWS, len(vectors)))
        return places, held[start : start + STREAM_ROWS]

    held = tf.constant(vectors)
    return tf.data.Dataset.range(0, len(vectors), STREAM_ROWS, output_type=tf.int32).map(block)


def _traced(layer: Any, dim: int) -> Any:
    """The layer as one graph for any number of queries and any k."""
    signature = [tf.TensorSpec([None, dim], tf.float32), tf.TensorSpec([], tf.int32)]
    return tf.function(lambda queries, k: layer(queries, k=k), input_signature=signature)
