"""SavedModels for TF Serving: a tower, or a whole recommender. They need TensorFlow, and nothing of this project.

Raw ids go in and, from a recommender, come out; they are looked up inside the graph. Every input is a dense tensor, as
TF Serving wants it; rows of several ids are padded with "" or −1.

| feature | input | dtype |
| --- | --- | --- |
| `Categorical` | (n,) | the ids' own, string or int64 |
| `Bag`, `History` | (n, any), padded | the ids' own |
| `Text` | (n, any), padded with −1: codes of `recs_core.data.encoding.hash_words` | int32 |
| `Numeric` | (n,), not yet standardised | float32 |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Side
from recs_core.contract.errors import ConfigError, DataError, UnsupportedFeature
from recs_core.contract.features import Bag, Categorical, Feature, History, Numeric, Text
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import Weights
from recs_core.recommender import Recommender
from recs_core.storage.paths import local
from recs_core.tables.vocabulary import Vocabulary
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.indexes import NO_INTEGER, NO_STRING, refuse_duplicates
from recs_core_tensorflow.task import normalised
from recs_core_tensorflow.towers import TowerNet

EXCLUDE, K = "exclude", "k"
"""Names of a recommender's inputs beside its features."""


@dataclass(frozen=True)
class Lookup:
    """The ids of a table: `ids[i]` has row `first_row + i`; unknown ids have row 0."""

    ids: NDArray[Any]  # (n,) str, bytes, object or integers
    first_row: int = 1


@dataclass(frozen=True)
class ServedTower:
    """What a tower needs to be served: plain arrays by canonical name.

    `lookups`: table name → its ids. `numeric`: feature → (mean, standard deviation).
    """

    spec: TowerSpec
    side: Side
    weights: Weights
    lookups: Mapping[str, Lookup]
    numeric: Mapping[str, tuple[float, float]]


def tower_of(recommender: Recommender, side: Side) -> ServedTower:
    """One tower of a fitted recommender. Raises `UnsupportedFeature` for an adopted one."""
    schema = recommender.schema
    tower = recommender.query_tower if side == "query" else recommender.candidate_tower
    if tower.spec is None:
        raise UnsupportedFeature(f"the {side} tower is a user's own; save its `native` with tf.saved_model.save")
    lookups = {
        name: Lookup(_plain(vocabulary), schema.oov_rows(name)) for name, vocabulary in schema.vocabularies.items()
    }
    numeric = {
        name.removeprefix(f"{side}/"): value for name, value in schema.numeric.items() if name.startswith(f"{side}/")
    }
    return ServedTower(tower.spec, side, recommender.weights(), lookups, numeric)


def export_tower(recommender: Recommender, side: Side, path: str | Path) -> None:
    """Save one tower: `serving_default` takes its features and gives "embedding" (n, d), the tower's raw output."""
    save_tower(tower_of(recommender, side), path)


def export_recommender(recommender: Recommender, path: str | Path, *, k: int = 10) -> None:
    """Save the query tower with the whole corpus.

    `serving_default` takes the features and gives the best `k` "ids" and "scores" (n, k); `recommend` also takes "k" ()
    and "exclude" (n, any), ids that must not come back, padded. What is missing is "" or −1, with a score of − inf.
    """
    save_recommender(
        tower_of(recommender, "query"),
        recommender.retrieval,
        np.asarray(recommender.encode_candidate(), np.float32),
        _plain(recommender.schema.candidates),
        path,
        k=k,
    )


def save_tower(tower: ServedTower, path: str | Path) -> None:
    """As `export_tower`, from arrays."""
    module, embed, inputs = _module(tower)
    module.embed = tf.function(lambda features: {"embedding": embed(features)}, input_signature=[inputs])
    _save(module, path, {"serving_default": module.embed})


def save_recommender(
    tower: ServedTower,
    retrieval: RetrievalSpec,
    vectors: NDArray[np.float32],
    ids: NDArray[Any],
    path: str | Path,
    *,
    k: int = 10,
) -> None:
    """As `export_recommender`, from arrays: `vectors` (n, d) are the candidates' retrieval vectors, `ids` (n,) theirs.

    Raises `DataError` for ids that repeat or that are the padding.
    """
    if len(ids) != len(vectors):
        raise DataError(f"there are {len(vectors)} candidate vectors and {len(ids)} ids")
    refuse_duplicates(ids)
    taken = sorted({feature.name for feature in tower.spec.features} & {EXCLUDE, K})
    if taken:
        raise UnsupportedFeature(f"a feature named {taken[0]!r} collides with an input of the exported recommender")
    module, embed, inputs = _module(tower)
    module.ids, module.vectors = tf.Variable(_tensor(ids), trainable=False), tf.Variable(vectors, trainable=False)
    module.positions = _table(Lookup(ids, 0), "the corpus", padded=True, unknown=-1)
    missing = tf.constant(NO_STRING if module.ids.dtype == tf.string else NO_INTEGER, module.ids.dtype)

    def best(features: Any, exclude: Any, k: Any) -> dict[str, Any]:
        query = embed(features)
        query = normalised(query) if retrieval.scoring == "cosine" else query
        if retrieval.candidate_bias:
            query = tf.concat([query, tf.ones_like(query[:, :1])], axis=1)
        scores = tf.matmul(query, module.vectors, transpose_b=True)
        if exclude is not None:
            places = module.positions.lookup(exclude)
            row, column = tf.unstack(tf.where(places >= 0), axis=1)
            out = tf.stack([row, tf.cast(tf.gather_nd(places, tf.stack([row, column], 1)), tf.int64)], 1)
            nothing = tf.fill(tf.shape(row), tf.constant(-np.inf))
            scores = tf.tensor_scatter_nd_update(scores, out, nothing)
        scores, places = tf.math.top_k(scores, tf.minimum(k, len(ids)))
        found = tf.where(tf.math.is_finite(scores), tf.gather(module.ids, places), missing)
        lacking = [[0, 0], [0, tf.maximum(0, k - len(ids))]]
        return {
            "ids": tf.pad(found, lacking, constant_values=missing),
            "scores": tf.pad(scores, lacking, constant_values=-np.inf),
        }

    more = {EXCLUDE: tf.TensorSpec([None, None], module.ids.dtype, EXCLUDE), K: tf.TensorSpec([], tf.int32, K)}

    @tf.function(input_signature=[{**inputs, **more}])
    def recommend(given: Mapping[str, Any]) -> dict[str, Any]:
        return best(given, given[EXCLUDE], given[K])

    module.recommend = recommend
    module.top_k = tf.function(lambda features: best(features, None, k), input_signature=[inputs])
    _save(module, path, {"serving_default": module.top_k, "recommend": module.recommend})


def _module(tower: ServedTower) -> tuple[Any, Any, dict[str, Any]]:
    """A `tf.Module` owning variables and lookups, the tower as a function of raw features, and what these are."""
    rows = {name: len(value) for name, value in tower.weights.items() if name.startswith("table/")}
    query, candidate = (tower.spec, None) if tower.side == "query" else (None, tower.spec)
    names = canonical.shapes(query, candidate, RetrievalSpec(candidate_bias=False), rows, 0)
    variables = {n: tf.Variable(np.asarray(tower.weights[n], np.float32), name=n, trainable=False) for n in names}
    net = TowerNet(tower.spec, tower.side, variables, "float32")
    module = tf.Module()
    module.variables_held = list(variables.values())
    module.lookups = {
        name: _table(tower.lookups[name], name, padded=padded) for name, padded in _tables(tower.spec).items()
    }
    inputs = {feature.name: _input(feature, module.lookups) for feature in tower.spec.features}

    def embed(features: Mapping[str, Any]) -> Any:
        coded = {
            feature.name: _coded(feature, features[feature.name], module.lookups, tower.numeric)
            for feature in tower.spec.features
        }
        return net.forward(coded, net.tables)

    return module, embed, inputs


def _tables(spec: TowerSpec) -> dict[str, bool]:
    """Tables that ids are looked up in → whether some input of ids is padded."""
    out: dict[str, bool] = {}
    for feature in spec.features:
        if isinstance(feature, (Categorical, Bag, History)):
            out[feature.table_name] = out.get(feature.table_name, False) or not isinstance(feature, Categorical)
    return out


def _table(lookup: Lookup, name: str, *, padded: bool, unknown: int = 0) -> Any:
    """ids → rows, in the graph."""
    if lookup.first_row > 1:
        raise UnsupportedFeature(
            f"{name} has {lookup.first_row} OOV rows, chosen by a hash that TensorFlow cannot compute; "
            "export needs num_oov=1"
        )
    ids = _tensor(lookup.ids)
    padding = NO_STRING if ids.dtype == tf.string else NO_INTEGER
    if padded and bool(tf.reduce_any(ids == padding)):
        raise DataError(f"{name} holds the id {padding!r}, which pads the inputs of an exported model")
    rows = tf.range(len(lookup.ids), dtype=tf.int32) + lookup.first_row
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(ids, rows), default_value=unknown)


def _tensor(ids: NDArray[Any]) -> Any:
    """Ids as strings or int64."""
    ids = np.asarray(ids)
    return tf.constant(ids.astype(np.int64) if ids.dtype.kind in "iu" else ids.astype(object), name="ids")


def _input(feature: Feature, lookups: Mapping[str, Any]) -> Any:
    """What the exported model takes for a feature."""
    if isinstance(feature, Numeric):
        return tf.TensorSpec([None], tf.float32, feature.name)
    if isinstance(feature, Text):
        return tf.TensorSpec([None, None], tf.int32, feature.name)
    assert feature.table_name is not None
    shape = [None] if isinstance(feature, Categorical) else [None, None]
    return tf.TensorSpec(shape, lookups[feature.table_name].key_dtype, feature.name)


def _coded(
    feature: Feature, values: Any, lookups: Mapping[str, Any], numeric: Mapping[str, tuple[float, float]]
) -> Any:
    """Raw values as the tower takes them: rows of its table, or standardised numbers."""
    if isinstance(feature, Numeric):
        mean, deviation = numeric[feature.name]
        return (values - mean) / deviation
    if isinstance(feature, Text):
        return tf.ragged.boolean_mask(values, values >= 0)
    assert feature.table_name is not None
    rows = lookups[feature.table_name].lookup(values)
    if isinstance(feature, Categorical):
        return rows
    if isinstance(feature, History):  # a past candidate without a row of its own says nothing
        known = tf.ragged.boolean_mask(rows, rows > 0)
        return known if feature.max_length is None else known[:, -feature.max_length :]
    padding = NO_STRING if values.dtype == tf.string else NO_INTEGER
    return tf.ragged.boolean_mask(rows, values != padding)


def _plain(vocabulary: Vocabulary) -> NDArray[Any]:
    return vocabulary.ids.to_numpy(zero_copy_only=False)


def _save(module: Any, path: str | Path, signatures: Mapping[str, Any]) -> None:
    tf.saved_model.save(module, str(local(path, "export", ConfigError)), signatures=dict(signatures))
