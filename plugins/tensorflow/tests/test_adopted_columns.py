"""What a user's own `tf.keras.Model` is handed: every kind of column, ragged ones in order, by code or by raw id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recs_core_tensorflow.backend import create
from recs_core_tensorflow.data import tf_dataset
from recs_core_tensorflow.environment import tf

import recs_core as recs
from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.errors import SpecError
from recs_core.contract.features import Column
from recs_core.contract.optimizers import Adagrad
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec

PAST = Column("item", "many", 1, "table/item", mean=True)
PRICE = Column("price", "dense", 2)
ITEMS = ["[UNK]", "a", "b", "c"]
ROWS = Ragged.of([[3, 1, 2], [2], []])
PLAIN = RetrievalSpec(candidate_bias=False, logq=False, remove_accidental_hits=False)
ITEM_PLAN = TowerPlan.of("candidate", recs.TowerSpec([recs.Categorical("item", dim=3)]))


class Last(tf.keras.layers.Layer):
    """The row of the last code of each row, zeros where there is none; it keeps what it was called on."""

    def __init__(self, ids: bool = False) -> None:
        super().__init__()
        self.look = tf.keras.layers.StringLookup(vocabulary=ITEMS[1:], mask_token=None) if ids else None

    def build(self, shape: Any) -> None:
        self.table = self.add_weight("table", (4, 3))

    def call(self, rows: Any) -> Any:
        assert isinstance(rows, tf.RaggedTensor) and rows.row_splits.dtype == tf.int64
        codes = rows if self.look is None else rows.with_values(self.look(rows.values))
        return tf.reduce_sum(tf.gather(self.table, codes[:, -1:]), axis=1)


def gru(vocabulary: int, width: int = 4) -> Any:
    tf.keras.utils.set_random_seed(0)
    rows = tf.keras.Input((None,), dtype=tf.int32, ragged=True)
    seen = tf.keras.layers.Embedding(vocabulary, width)(rows)
    return tf.keras.Model(rows, tf.keras.layers.GRU(width)(seen))


def batch() -> Batch:
    """Three queries by their past; the candidates' tower gathers rows 1 … 3 of its table."""
    return Batch(
        rows={"table/item": np.array([1, 2, 3], np.int32)},
        query=Features(3, {"item": ROWS}),
        candidate=Features(3, {"item": np.array([0, 1, 2], np.int32)}),
        task={},
    )


@pytest.mark.parametrize("ids", [None, {"item": ITEMS}], ids=["codes", "raw-ids"])
def test_codes_of_a_ragged_column_come_oldest_first(ids: dict[str, list[str]] | None) -> None:
    module = Last(ids is not None)
    tower = create().adopt(module, [PAST], ids=ids)
    assert tower.output_dim == 3
    table = module.table.numpy()
    wanted = [table[2], table[2], np.zeros(3)]
    np.testing.assert_array_equal(tower.embed(Features(3, {"item": ROWS})), wanted)


def test_several_columns_come_as_a_dict_each_in_its_shape() -> None:
    seen: dict[str, Any] = {}

    class Sides(tf.keras.Model):
        def call(self, given: Any) -> Any:
            seen.update(given)
            return tf.concat([tf.reduce_sum(tf.cast(given["item"], tf.float32), 1)[:, None], given["price"]], 1)

    tower = create().adopt(Sides(), ["user", PAST, PRICE])
    assert tower.output_dim == 3
    prices = np.arange(6.0).reshape(3, 2)
    got = tower.embed(Features(3, {"item": ROWS, "user": np.arange(3, dtype=np.int32)}, {"price": prices}))
    np.testing.assert_array_equal(got, np.column_stack([[6, 2, 0], prices]))
    assert seen["user"].shape == (3,) and seen["item"].dtype == tf.int32 and seen["price"].dtype == tf.float32


def test_an_adopted_history_trains_beside_a_table_of_the_same_name() -> None:
    tower = create().adopt(Last(), [PAST])
    start = {"table/item": np.eye(4, 3, dtype=np.float32)}
    model = create().model(tower, ITEM_PLAN, PLAIN, start)
    before = model.weights()
    trainer = create().trainer(model, UpdatePlan(Adagrad(0.3)))
    losses = [float(trainer.step(batch(), 0.3)) for _ in range(10)]
    assert losses[-1] < losses[0]
    moved = (model.weights()["query/native/0/table"] != before["query/native/0/table"]).any(axis=1)
    assert moved.tolist() == [False, False, True, False]  # both rows that hold something end with code 2


def test_no_past_at_all_has_a_vector_and_a_step() -> None:
    """Keras's recurrent layers cannot run on ragged rows that are all empty."""
    tower = create().adopt(gru(4, 3), [PAST])
    none, some = Ragged.of([[], []]), Ragged.of([[], [1]])
    got = tower.embed(Features(2, {"item": none}))
    assert got.shape == (2, 3)
    np.testing.assert_array_equal(got[0], tower.embed(Features(2, {"item": some}))[0])
    model = create().model(tower, ITEM_PLAN, PLAIN, {"table/item": np.eye(4, 3, dtype=np.float32)})
    trainer = create().trainer(model, UpdatePlan(Adagrad(0.3)))
    empty = Features(3, {"item": Ragged.of([[], [], []])})
    given = batch()
    assert np.isfinite(float(trainer.step(Batch(given.rows, empty, given.candidate, {}), 0.3)))


def test_a_batch_that_both_sides_could_read_is_refused_before_there_is_a_model() -> None:
    tower = create().adopt(Last(), [PAST])
    with pytest.raises(SpecError, match=r"both sides of the batch .*'item'.* pass batch\.query or batch\.candidate"):
        tower(batch())
    create().model(tower, ITEM_PLAN, PLAIN, {"table/item": np.eye(4, 3, dtype=np.float32)})
    np.testing.assert_array_equal(tower(batch()), tower.embed(batch().query))


def test_a_module_that_cannot_take_a_ragged_column_is_refused() -> None:
    with pytest.raises(SpecError, match=r"Last failed on codes of 'item' .*recs\.Adopted\(…, raw_ids=True\)"):
        create().adopt(Last(ids=True), [PAST])
    with pytest.raises(SpecError, match="ids are given for 'price', which is no column of codes"):
        create().adopt(Last(), [PAST, PRICE], ids={"price": [1]})


def shop() -> recs.Interactions:
    users = [f"u{i % 7}" for i in range(60)]
    items = [f"i{i * 5 % 11}" for i in range(60)]
    return recs.Interactions.from_table(
        {"user": users, "item": items, "time": list(range(60))}, query="user", candidate="item", timestamp="time"
    )


def test_keras_own_loop_takes_an_adopted_history() -> None:
    train = shop()
    model = recs.TwoTower(
        recs.Adopted(gru(len(train.candidate_ids) + 1), features=[recs.History("item", max_length=5)]),
        recs.TowerSpec([recs.Categorical("item", dim=4)]),
        backend="tensorflow",
    )
    batches = tf_dataset(model, train, batch_size=len(train))
    model.model.native.compile(optimizer=tf.keras.optimizers.Adam(0.01))
    losses = model.model.native.fit(batches, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("raw_ids", [False, True])
def test_a_gru_over_the_history_trains_is_saved_and_loaded(raw_ids: bool, tmp_path: Path) -> None:
    train = shop()
    ids = train.candidate_ids.ids.to_pylist()

    def module() -> Any:
        if not raw_ids:
            return gru(len(ids) + 1)
        rows = tf.keras.Input((None,), dtype=tf.string, ragged=True)
        codes = tf.keras.layers.StringLookup(vocabulary=ids, mask_token=None)(rows)
        return tf.keras.Model(rows, tf.keras.layers.GRU(4)(tf.keras.layers.Embedding(len(ids) + 1, 4)(codes)))

    model = recs.TwoTower(
        recs.Adopted(module(), features=[recs.History("item", max_length=5)], raw_ids=raw_ids),
        recs.TowerSpec([recs.Categorical("item", dim=4)]),
        backend="tensorflow",
    )
    history = model.fit(train, epochs=3, batch_size=16, progress=False)
    assert history.losses[-1] < history.losses[0]
    asked = {"history": [["i1", "i2"], ["i2", "i1"], []], "k": 4}
    answer = model.recommend(**asked)
    assert not np.allclose(answer.scores[0], answer.scores[1])  # the order counts
    assert model.recommend(history=[[]], k=4).ids.shape == (1, 4)
    path = model.save(tmp_path / "bundle")
    loaded = recs.load(path, backend="tensorflow", native={"query": module()})
    again = loaded.recommend(**asked)
    assert (again.ids == answer.ids).all()
    np.testing.assert_allclose(again.scores, answer.scores, rtol=1e-6)
