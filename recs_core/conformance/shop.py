"""A small shop with the awkward ids of real ones, and models of it: for checks of whole journeys through a backend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric
from recs_core.contract.optimizers import Adam
from recs_core.contract.protocols import Backend, DType
from recs_core.contract.randomness import generator
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import TrainingSpec
from recs_core.contract.weights import Weights
from recs_core.data.catalog import Catalog
from recs_core.data.encoded import EncodedDataset
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.fitted import Declared, Fitted
from recs_core.two_tower import TwoTower

CUSTOMERS = ("Ωμέγα", "naïve", "nai\u0308ve", "东京", "😀", " ", "a", "A", *(f"c{n}" for n in range(12)))
"""Ids that some way of comparing takes for equal: composed and decomposed, upper and lower case, blank."""
FIRST_ITEM = 2**53
"""Neighbours above it are one number in float64, and far above what an int32 or a float32 holds."""
ITEMS = tuple(FIRST_ITEM + n for n in range(30))
DOT = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False)
TAGS = ("red", "blue", "großes", "old")


@dataclass(frozen=True)
class Shop:
    """Purchases to train on and later ones to test on."""

    train: Interactions
    test: Interactions


@cache
def shop() -> Shop:
    """131 purchases, some of them made twice. Item 29 is bought by nobody."""
    random = generator(0, "conformance/shop")
    rows = 131
    items = (29 * random.random(rows) ** 2).astype(int)
    customers = random.integers(0, len(CUSTOMERS), rows)
    customers[-9:], items[-9:] = customers[:9], items[:9]
    side = {
        "item": ITEMS,
        "tags": [[TAGS[n % 4], TAGS[n % 3]][: n % 3] for n in range(len(ITEMS))],
        "price": [float(n % 7) for n in range(len(ITEMS))],
    }
    table = {
        "customer": [CUSTOMERS[n] for n in customers],
        "item": [ITEMS[n] for n in items],
        "time": np.arange(rows, dtype=float),
    }
    data = Interactions.from_table(table, query="customer", candidate="item", timestamp="time", candidates=side)
    return Shop(data.take(np.arange(101)), data.take(np.arange(101, rows)))


@cache
def later() -> Interactions:
    """24 purchases after the shop's, of customers and items old and new."""
    random = generator(0, "conformance/later")
    customers = [*CUSTOMERS[:4], *(f"new {n}" for n in range(5))]
    items = [*ITEMS[20:], *(FIRST_ITEM + 100 + n for n in range(7))]
    table = {
        "customer": [customers[n % len(customers)] for n in range(24)],
        "item": [items[n] for n in random.integers(0, len(items), 24 - len(items))] + items,
        "time": 1000.0 + np.arange(24),
    }
    side = {"item": items, "tags": [[TAGS[n % 3]] for n in range(len(items))], "price": [3.0] * len(items)}
    return Interactions.from_table(table, query="customer", candidate="item", timestamp="time", candidates=side)


def untrained(backend: Backend, dtype: DType) -> TwoTower:
    """A smooth model with what the required tier needs. An epoch is a batch of 96 rows and one of 5."""
    query = TowerSpec(
        (Categorical("customer", dim=4), History("item", dim=4)),
        layers=(3,),
        final_activation="tanh",
    )
    candidate = TowerSpec(
        (Categorical("item", dim=4), Bag("tags", dim=3), Numeric("price")),
        layers=(3,),
        final_activation="tanh",
    )
    retrieval = RetrievalSpec(temperature=0.5, learn_temperature=True)
    training = TrainingSpec(epochs=1, batch_size=96)
    return TwoTower(query, candidate, retrieval, Adam(0.01), training=training, backend=backend, dtype=dtype)


def trained(backend: Backend, dtype: DType) -> TwoTower:
    """The same after an epoch, validated."""
    model = untrained(backend, dtype)
    model.fit(shop().train, shop().test, progress=False)
    return model


def angled(backend: Backend, data: Interactions, customers: Any, items: Any, *, name: str = "customer") -> TwoTower:
    """A model that scores by angle: the i-th id of `name` looks at angle `customers[i]`, item i stands at `items[i]`.

    Angles in degrees. Vectors of length 1 from a table, through a layer that multiplies by 1.
    """
    weights: dict[str, NDArray[Any]] = {"table/item": _at(items), f"table/{name}": _at(customers)}
    for side in ("query", "candidate"):
        weights |= {f"{side}/dense_0/kernel": np.eye(2), f"{side}/dense_0/bias": np.zeros(2)}
    query, candidate = (TowerSpec((Categorical(feature, dim=2),), layers=(2,)) for feature in (name, "item"))
    return restored(backend, data, query, candidate, weights)


def restored(
    backend: Backend,
    data: Interactions,
    query: TowerSpec,
    candidate: TowerSpec,
    weights: Weights,
) -> TwoTower:
    """A float32 model with given weights, whose scores are inner products."""
    catalog = Catalog.of(EncodedDataset.encode(query, candidate, Schema.learn(query, candidate, data), data))
    declared = Declared(query, candidate, DOT, Adam(), seed=0)
    weights = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    return TwoTower.of(Fitted(declared, catalog, weights), backend=backend)


def _at(degrees: Any) -> NDArray[np.floating]:
    """A table: the OOV row of zeros, then points on the circle."""
    radians = np.deg2rad(np.asarray(degrees, np.float64))
    return np.vstack([np.zeros((1, 2)), np.column_stack([np.cos(radians), np.sin(radians)])])
