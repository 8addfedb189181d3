"""Where tensors are made, and what a step in bfloat16 keeps in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from recs_core_torch import Backend

import recs_core as recs
from recs_core.conformance.worlds import OPTIMIZERS, World
from recs_core.contract.feature_kinds import Categorical, History, Numeric, Vector
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.towers import TowerSpec

ITEMS = [Categorical("item", dim=4), Vector("image", dim=3, length=5), Numeric("price")]
WORLDS = {
    "everything": World(
        query=TowerSpec([Categorical("user", dim=4), History("item", dim=4)], layers=[3], dropout=0.2),
        candidate=TowerSpec(ITEMS, layers=[3], activation="tanh"),
    ).with_(candidate_bias=True, learn_temperature=True, mask_positives=True),
    "hard": World(batch_by="query", masks=True).with_(hard_negatives=3, scoring="cosine"),
    "gru": World(
        query=TowerSpec([History("item", dim=4, max_length=4, encoder=recs.GRU(layers=2, dropout=0.2))], layers=[3])
    ),
    "attention": World(
        query=TowerSpec(
            [History("item", dim=4, max_length=4, encoder=recs.SelfAttention(heads=2, dropout=0.2))], layers=[3]
        )
    ),
}


@pytest.fixture
def nothing_by_default() -> Iterator[None]:
    """A tensor that is made without saying where has no numbers, and meets no other."""
    with torch.device("meta"):
        yield


def trained(world: World, optimizer: str, precision: Any = None) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
    model = Backend().model(*world.plans, world.retrieval, world.weights())
    trainer = Backend().trainer(model, UpdatePlan(OPTIMIZERS[optimizer], precision))
    losses = [float(trainer.step(batch, 0.05)) for batch in world.batches(3)]
    vectors = model.query.embed(world.features("query", 5))
    return [*losses, *vectors.ravel().tolist()], model.weights(), trainer.state()


@pytest.mark.parametrize("optimizer", ["adagrad", "row-wise-adagrad", "lazy-adam", "dense-adam"])
@pytest.mark.parametrize("world", WORLDS)
def test_every_tensor_is_made_where_the_model_is(world: str, optimizer: str, request: pytest.FixtureRequest) -> None:
    expected = trained(WORLDS[world], optimizer)
    request.getfixturevalue("nothing_by_default")
    found = trained(WORLDS[world], optimizer)
    assert found[0] == expected[0]
    for here, there in zip(found[1:], expected[1:], strict=True):
        for name, value in there.items():
            np.testing.assert_array_equal(here[name], value, err_msg=name)


@pytest.mark.parametrize("world", ["everything", "gru", "attention"])
def test_bf16_is_for_towers_alone(world: str) -> None:
    losses, weights, state = trained(WORLDS[world], "lazy-adam", "bf16")
    plain, full, _ = trained(WORLDS[world], "lazy-adam")
    assert losses != plain
    np.testing.assert_allclose(losses[:3], plain[:3], rtol=2e-2)
    assert all(value.dtype == np.float32 for value in weights.values())
    assert all(value.dtype == np.float32 for name, value in state.items() if name != "step")
    model = Backend().model(*WORLDS[world].plans, WORLDS[world].retrieval, full)
    again = Backend().model(*WORLDS[world].plans, WORLDS[world].retrieval, full)
    Backend().trainer(model, UpdatePlan(OPTIMIZERS["lazy-adam"], "bf16"))
    features = WORLDS[world].features("query", 5)
    np.testing.assert_array_equal(model.query.embed(features), again.query.embed(features))
