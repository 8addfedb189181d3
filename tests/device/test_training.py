"""A model trains on a device as on a CPU: data of every kind, with every kind of negatives, way of batching and
optimizer."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.conformance.expect import LOSS_BF16
from tests.device.place import DEVICE, ON_DEVICE, assert_same_run, trained
from tests.parity.worker import in_order, smooth, tiny

pytestmark = ON_DEVICE

NEGATIVES: dict[str, dict[str, Any]] = {
    "in-batch": {},
    "uniform": {"num_negatives": 32},
    "mixed": {"num_negatives": 16},
    "corpus": {},
}
OPTIMIZERS = {
    "sgd": recs.SGD(0.05, momentum=0.9),
    "adagrad": recs.Adagrad(0.05),
    "row-wise-adagrad": recs.RowWiseAdagrad(0.05),
    "lazy-adam": recs.Adam(3e-3, clip_norm=0.5, weight_decay=0.01),
    "dense-adam": recs.Adam(3e-3, dense=True),
}
ENCODERS = {
    "gru": recs.GRU(layers=2, dropout=0.2),
    "attention": recs.SelfAttention(heads=2, dropout=0.2),
    "rotary": recs.SelfAttention(heads=2, position="rotary", activation="swiglu", gate=True, dropout=0.1),
}
DTYPES = ("float64", "float32")


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    return tiny()[0]


def without_shown(data: recs.Interactions) -> recs.Interactions:
    """The whole corpus has what was shown already."""
    return dataclasses.replace(data, negatives=None)


def parts_of(model: recs.TwoTower) -> dict[str, Any]:
    """What it was declared with."""
    return vars(model.declared)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_by", ["interaction", "query"])
@pytest.mark.parametrize(("negatives", "optimizer"), list(itertools.product(NEGATIVES, OPTIMIZERS)))
def test_every_kind_of_feature(
    data: recs.Interactions, negatives: str, optimizer: str, batch_by: Any, dtype: str
) -> None:
    retrieval = recs.RetrievalSpec(
        temperature=0.2, learn_temperature=True, negatives=negatives, mask_positives=batch_by == "query",
        **NEGATIVES[negatives],
    )  # fmt: skip
    training = recs.TrainingSpec(batch_size=128 if batch_by == "interaction" else 32, batch_by=batch_by)
    query = parts_of(smooth())["query"] if batch_by == "interaction" else OF_QUERIES
    parts = parts_of(smooth()) | {
        "query": query,
        "retrieval": retrieval,
        "optimizer": OPTIMIZERS[optimizer],
        "training": training,
        "dtype": dtype,
    }
    rows = without_shown(data) if negatives == "corpus" else data
    assert_same_run(trained(rows, "cpu", parts), trained(rows, DEVICE, parts))


OF_QUERIES = recs.TowerSpec(
    [recs.Categorical("customer", dim=8), recs.History("item", dim=8)], layers=[8], activation="tanh", dropout=0.2
)
"""What a batch of queries can read: nothing of a row."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hard", [None, 5])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_histories_in_order(data: recs.Interactions, encoder: str, hard: int | None, dtype: str) -> None:
    parts = parts_of(in_order(ENCODERS[encoder])) | {"dtype": dtype}
    if hard is not None:
        parts["retrieval"] = recs.RetrievalSpec(temperature=0.2, negatives="corpus", hard_negatives=hard)
        data = without_shown(data)
    assert_same_run(trained(data, "cpu", parts), trained(data, DEVICE, parts))


@pytest.mark.parametrize("encoder", [None, *ENCODERS])
def test_bf16(data: recs.Interactions, encoder: str | None) -> None:
    """Losses within the tolerance of bf16 of float32's, and weights that bfloat16 does not hold."""
    parts = parts_of(smooth() if encoder is None else in_order(ENCODERS[encoder]))
    bf16 = parts | {"training": dataclasses.replace(parts["training"], precision="bf16")}
    plain, rounded = trained(data, "cpu", parts), trained(data, DEVICE, bf16)
    assert rounded.history.losses != plain.history.losses
    np.testing.assert_allclose(rounded.history.losses, plain.history.losses, rtol=LOSS_BF16)
    weights = np.concatenate([value.ravel() for value in rounded.weights().values()])
    assert np.mean(weights.view(np.uint32) & 0xFFFF != 0) > 0.5


@pytest.mark.parametrize("name", ["ids", "history", "sequence", "features"])
def test_recipes(data: recs.Interactions, name: str) -> None:
    parts = parts_of(recs.recipe(name, data, backend="torch", dtype="float64"))
    assert_same_run(trained(data, "cpu", parts), trained(data, DEVICE, parts))
