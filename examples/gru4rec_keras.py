"""GRU4Rec as a Keras module of one's own, on any engine: the query tower reads a customer's latest items in order.

KERAS_BACKEND=jax python examples/gru4rec_keras.py [online-retail | synthetic]
"""

import sys
from typing import Any

import keras
from keras import ops

import recs_core as recs
from recs_core import datasets


class GRU4Rec(keras.Model):
    """The state of a GRU after the latest `length` items of each row; zeros where a row has none."""

    def __init__(self, rows: int, dim: int, length: int) -> None:
        super().__init__()
        self.length, self.items, self.gru = length, keras.layers.Embedding(rows, dim), keras.layers.GRU(dim)

    def call(self, history: tuple[Any, Any]) -> Any:
        values, offsets = history  # row i holds values[offsets[i]:offsets[i + 1]], oldest first
        places = offsets[1:, None] - ops.arange(self.length, 0, -1, dtype=offsets.dtype)
        known = places >= offsets[:-1, None]
        codes = ops.take(values, ops.where(known, places, 0), axis=0)
        return self.gru(self.items(codes), mask=known)


def main() -> None:
    """Train on one part of a data set, evaluate on what comes later, recommend."""
    data = datasets.load(sys.argv[1] if len(sys.argv) > 1 else "online-retail")
    item = data.candidate_name
    train, test = data.split(by="time", test=0.1, known_only=True)

    keras.utils.set_random_seed(0)
    module = GRU4Rec(rows=1 + len(train.candidate_ids), dim=32, length=20)  # row 0: items that training never saw
    module((ops.zeros(1, "int32"), ops.zeros(2, "int32")))  # so that it has its weights
    query = recs.Adopted(module, [recs.History(item, max_length=20)])
    candidate = recs.TowerSpec([recs.Categorical(item, dim=32)])
    model = recs.TwoTower(query, candidate, optimizer=recs.Adam(1e-2), backend="keras")
    model.fit(train, epochs=2, batch_size=1024)

    metrics = model.evaluate(test)
    print(f"recall@20 {metrics['recall@20']:.3f}   ndcg@20 {metrics['ndcg@20']:.3f}")
    print(*model.recommend(train.query_ids.ids[:1].to_pylist(), k=5).ids[0])


if __name__ == "__main__":
    main()
