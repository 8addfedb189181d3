"""SavedModels for TF Serving: a tower, or a whole recommender. They need TensorFlow, and nothing of this project.

Raw ids go in and, from a recommender, come out; they are looked up inside the graph. Every input is a dense tensor, as
TF Serving wants it; rows of several ids are padded with "" or −1.

| feature | input | dtype |
| --- | --- | --- |
| `Categorical` | (n,) | the ids' own, string or int64 |
| `Bag`, `History` | (n, any), padded | the ids' own |
| `Text` | (n, any), padded with −1: the values of `Text.encode` | int32 |
| `Numeric` | (n,), not yet standardised | float32 |
| `Bucketed` | (n,), NaN where missing | float64 |
| `Clock` | (n,) seconds since 1970, NaN where missing | float64 |
| `Vector` | (n, length), zeros where missing | float32 |

A kind of one's own cannot be served so: its `encode` is Python, and no graph. A tower of one's own can: its module gets
in the graph what it gets in training, raw ids or codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.errors import ConfigError, DataError, UnsupportedFeature
from recs_core.contract.feature_kinds import Bag, Bucketed, Categorical, Clock, History, Numeric, Text, Vector
from recs_core.contract.feature_numbers import SECONDS_A_DAY
from recs_core.contract.feature_vectors import EPSILON
from recs_core.contract.features import Feature, State
from recs_core.contract.plans import TowerPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.vocabulary import Vocabulary
from recs_core.contract.weights import Weights
from recs_core.recommender import Recommender
from recs_core.storage.paths import local
from recs_core_tensorflow.adopted import AdoptedTower
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.indexes import NO_INTEGER, NO_STRING, refuse_duplicates
from recs_core_tensorflow.kernel import normalised
from recs_core_tensorflow.towers import output, weight_names

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

    `lookups`: table name → its ids. `learnt`: feature → what it learned, for those that learn. `adopted`: a tower of
    one's own, which has its weights itself.
    Raises `UnsupportedFeature` for a feature whose kind has no graph, or that reads times.
    """

    spec: TowerSpec
    side: Side
    weights: Weights
    lookups: Mapping[str, Lookup]
    learnt: Mapping[str, State]
    adopted: AdoptedTower | None = None

    def __post_init__(self) -> None:
        for feature in self.spec.features:
            if type(feature) not in _SERVED:
                known = ", ".join(kind.__name__ for kind in _SERVED)
                raise UnsupportedFeature(
                    f"a SavedModel cannot hold {feature.where}, whose encode is Python and no graph (it can: {known}); "
                    "serve the bundle with recs.load(path, runtime='numpy') instead"
                )
            if feature.reads_time:
                raise UnsupportedFeature(
                    f"a SavedModel cannot hold {feature.where}, which reads when past candidates were: it is given "
                    "codes alone; serve the bundle with recs.load(path, runtime='numpy'), or train with time=None"
                )


def tower_of(recommender: Recommender, side: Side) -> ServedTower:
    """One tower of a fitted recommender. Raises `UnsupportedFeature` for a module of another framework."""
    schema = recommender.schema
    tower = recommender.query_tower if side == "query" else recommender.candidate_tower
    adopted = tower if isinstance(tower, AdoptedTower) else None
    if tower.plan is None and adopted is None:
        raise UnsupportedFeature(
            f"the {side} tower is a {type(tower.native).__name__} that is no tf.keras.Model, and a SavedModel cannot "
            "hold it; serve the model with recs.load(path, native={…})"
        )
    lookups = {
        name: Lookup(_plain(vocabulary), schema.first_row(name)) for name, vocabulary in schema.vocabularies.items()
    }
    spec = recommender.query if side == "query" else recommender.candidate
    learnt = {feature.name: schema.known(side, feature).state for feature in spec.features}
    return ServedTower(spec, side, recommender.weights(), lookups, learnt, adopted)


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
    module = tf.Module()
    if tower.adopted is None:
        plan = TowerPlan.of(tower.side, tower.spec)
        variables = {
            name: tf.Variable(np.asarray(tower.weights[name], np.float32), name=name, trainable=False)
            for name in weight_names(plan)
        }
        module.held = list(variables.values())
        run = partial(output, plan, weights=variables)
    else:
        module.held = tower.adopted.native
        run = partial(tower.adopted.forward, training=False)
    module.lookups = {
        name: _table(tower.lookups[name], name, padded=padded) for name, padded in _tables(tower.spec).items()
    }
    served = {feature: _SERVED[type(feature)] for feature in tower.spec.features}

    def spec(feature: Feature) -> Any:
        dtype = served[feature].dtype or module.lookups[feature.table_name].key_dtype
        return tf.TensorSpec([None] * served[feature].rank, dtype, feature.name)

    def embed(features: Mapping[str, Any]) -> Any:
        coded = {}
        for feature, how in served.items():
            values = features[feature.name]
            rows = module.lookups[feature.table_name].lookup(values) if feature.has_vocabulary else None
            coded[feature.name] = how.coded(feature, values, rows, tower.learnt.get(feature.name, {}))
        return run(coded)

    return module, embed, {feature.name: spec(feature) for feature in served}


def _tables(spec: TowerSpec) -> dict[str, bool]:
    """Tables that ids are looked up in → whether some input of ids is padded."""
    out: dict[str, bool] = {}
    for feature in spec.features:
        if feature.has_vocabulary and feature.table_name is not None:
            out[feature.table_name] = out.get(feature.table_name, False) or feature.kind == "many"
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


@dataclass(frozen=True)
class _Served:
    """How a kind of feature is served: the `rank` and `dtype` of its input (None: that of its ids), and what the tower
    reads of (feature, input, its table's rows where ids are looked up, what the feature learned)."""

    rank: int
    dtype: Any
    coded: Callable[[Any, Any, Any, State], Any]


def _bag(feature: Bag, ids: Any, rows: Any, _: State) -> Any:
    return tf.ragged.boolean_mask(rows, ids != (NO_STRING if ids.dtype == tf.string else NO_INTEGER))


def _history(feature: History, ids: Any, rows: Any, _: State) -> Any:
    known = tf.ragged.boolean_mask(rows, rows > 0)  # a past candidate without a row of its own says nothing
    return known if feature.max_length is None else known[:, -feature.max_length :]


def _numeric(feature: Numeric, numbers: Any, rows: Any, learnt: State) -> Any:
    return ((numbers - learnt["mean"]) / learnt["deviation"])[:, None]


def _bucketed(feature: Bucketed, numbers: Any, rows: Any, learnt: State) -> Any:
    buckets = 1 + tf.searchsorted(tf.constant(learnt["edges"], tf.float64), numbers, side="right")
    return tf.where(tf.math.is_nan(numbers), 0, buckets)


def _clock(feature: Clock, seconds: Any, rows: Any, learnt: State) -> Any:
    days = seconds / SECONDS_A_DAY
    turns = {"hour": days % 1, "weekday": (tf.floor(days) + 3) % 7 / 7}
    parts = {name: [tf.sin(2 * np.pi * turn), tf.cos(2 * np.pi * turn)] for name, turn in turns.items()}
    parts["age_days"] = [(days - learnt["mean"]) / learnt["deviation"]]
    numbers = tf.stack([number for part in feature.parts for number in parts[part]], 1)
    return tf.cast(tf.where(tf.math.is_nan(numbers), tf.zeros((), numbers.dtype), numbers), tf.float32)


def _vector(feature: Vector, numbers: Any, rows: Any, learnt: State) -> Any:
    if not feature.normalise:
        return numbers
    x = tf.cast(numbers, tf.float64)
    return tf.cast(x / tf.sqrt(tf.reduce_sum(x**2, 1, keepdims=True) + EPSILON), tf.float32)


_SERVED: Mapping[type[Feature], _Served] = {
    Categorical: _Served(1, None, lambda feature, ids, rows, _: rows),
    Bag: _Served(2, None, _bag),
    History: _Served(2, None, _history),
    Text: _Served(2, tf.int32, lambda feature, codes, rows, _: tf.ragged.boolean_mask(codes, codes >= 0)),
    Numeric: _Served(1, tf.float32, _numeric),
    Bucketed: _Served(1, tf.float64, _bucketed),
    Clock: _Served(1, tf.float64, _clock),
    Vector: _Served(2, tf.float32, _vector),
}
"""What each kind's `encode` is in a graph."""


def _plain(vocabulary: Vocabulary) -> NDArray[Any]:
    return vocabulary.ids.to_numpy(zero_copy_only=False)


def _save(module: Any, path: str | Path, signatures: Mapping[str, Any]) -> None:
    tf.saved_model.save(module, str(local(path, "export", ConfigError)), signatures=dict(signatures))
