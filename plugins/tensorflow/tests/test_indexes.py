"""TFRS's layers with the promises they lack: what goes wrong in TFRS 0.7.7, and does not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recs_core_tensorflow import BruteForce, Streaming
from recs_core_tensorflow.environment import tf, tfrs

from recs_core.contract.errors import DataError, NotFitted

IDS = np.array(["a", "b", "c", "d", "e", "f"])
VECTORS = np.array([[6.0], [5.0], [4.0], [3.0], [2.0], [1.0]], np.float32)
QUERY = np.ones((1, 1), np.float32)


def brute_force(vectors: np.ndarray = VECTORS, ids: np.ndarray = IDS, k: int = 3) -> Any:
    return BruteForce(k=k).index(tf.constant(vectors), tf.constant(ids))


def streaming(vectors: np.ndarray = VECTORS, ids: np.ndarray = IDS, k: int = 3) -> Any:
    return Streaming(k=k).index_from_dataset(tf.data.Dataset.from_tensor_slices((ids, vectors)).batch(4))


LAYERS = pytest.mark.parametrize("make", [brute_force, streaming])


def names(ids: Any) -> list[str]:
    return [value.decode() for value in np.asarray(ids)[0]]


@LAYERS
def test_they_are_the_layers_of_tfrs(make: Any) -> None:
    assert isinstance(make(), tfrs.layers.factorized_top_k.TopK)
    scores, ids = make()(QUERY)
    assert names(ids) == ["a", "b", "c"]
    np.testing.assert_array_equal(scores, [[6, 5, 4]])


@LAYERS
def test_an_excluded_candidate_never_comes_back(make: Any) -> None:
    """TFRS: Streaming gives e, f and the excluded a; BruteForce raises."""
    scores, ids = make().query_with_exclusions(QUERY, np.array([["a", "b", "c", "d"]]), k=3)
    assert names(ids) == ["e", "f", ""]
    np.testing.assert_array_equal(scores, [[2, 1, -np.inf]])


@LAYERS
def test_no_score_is_too_high_to_be_excluded(make: Any) -> None:
    """TFRS subtracts 100,000 from the score of what is excluded."""
    vectors = VECTORS.copy()
    vectors[0] = 1e6
    _, ids = make(vectors).query_with_exclusions(QUERY, np.array([["a", "unknown"]]), k=2)
    assert names(ids) == ["b", "c"]


@LAYERS
def test_k_beyond_the_corpus_is_padded(make: Any) -> None:
    scores, ids = make()(QUERY, k=8)
    assert names(ids) == ["a", "b", "c", "d", "e", "f", "", ""]
    assert np.isneginf(np.asarray(scores)[0, 6:]).all()


@LAYERS
def test_integer_ids_are_padded_with_minus_one(make: Any) -> None:
    ids = np.arange(6, dtype=np.int64) + 2**40
    _, found = make(ids=ids).query_with_exclusions(QUERY, ids[None, :5], k=2)
    np.testing.assert_array_equal(found, [[2**40 + 5, -1]])


@LAYERS
def test_ids_must_be_unique(make: Any) -> None:
    with pytest.raises(DataError, match="'a', 'b' appear more than once"):
        make(ids=np.array(["a", "a", "b", "b", "c", "d"]))


@LAYERS
def test_ties_keep_the_order_of_the_corpus(make: Any) -> None:
    _, ids = make(np.ones((6, 1), np.float32), k=6)(QUERY)
    assert names(ids) == list(IDS)


def test_an_empty_layer_says_so() -> None:
    with pytest.raises(NotFitted, match="index_from_dataset"):
        BruteForce()(QUERY)


def test_a_new_index_is_asked_about_exclusions_too() -> None:
    """TFRS's Streaming keeps asking the first data set."""
    layer = streaming()
    layer.query_with_exclusions(QUERY, np.array([["a"]]), k=1)
    layer.index_from_dataset(tf.data.Dataset.from_tensor_slices((IDS, -VECTORS)).batch(4))
    _, ids = layer.query_with_exclusions(QUERY, np.array([["f"]]), k=1)
    assert names(ids) == ["e"]


@LAYERS
def test_exclusions_survive_saving_for_any_size(make: Any, tmp_path: Path) -> None:
    layer = make()
    layer.save(tmp_path / "layer")
    loaded = tf.keras.models.load_model(tmp_path / "layer")
    assert names(loaded(tf.constant(QUERY))[1]) == ["a", "b", "c"]
    for exclusions, k, due in (
        ([["a"]], None, ["b", "c", "d"]),
        ([["a", "c", ""]], 2, ["b", "d"]),
        ([["b", "c", "d", "e"]], 3, ["a", "f", ""]),
    ):
        scores, ids = loaded.query_with_exclusions(tf.constant(QUERY), tf.constant(exclusions), k)
        assert names(ids) == due
        np.testing.assert_array_equal(np.isneginf(scores)[0], [name == "" for name in due])
    two = tf.constant(np.repeat(QUERY, 2, axis=0))
    assert loaded.query_with_exclusions(two, tf.constant([["a"], ["b"]]), 1)[1].numpy().tolist() == [[b"b"], [b"a"]]


@LAYERS
def test_a_query_model_keeps_its_exclusions_when_saved(make: Any, tmp_path: Path) -> None:
    kind = type(make())
    layer = kind(tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")]), k=2)
    layer.index_from_dataset(tf.data.Dataset.from_tensor_slices((IDS, VECTORS)).batch(4))
    exclusions = tf.constant([["a"]])
    due = names(layer.query_with_exclusions(QUERY, exclusions)[1])
    layer.save(tmp_path / "layer")
    loaded = tf.keras.models.load_model(tmp_path / "layer")
    assert names(loaded.query_with_exclusions(tf.constant(QUERY), exclusions)[1]) == due == ["b", "c"]
