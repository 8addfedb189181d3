"""What `fit` and `TwoTower` are given: what cannot be meant is refused, in one line, before anything is trained."""

from __future__ import annotations

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import SpecError
from recs_core.training import EpochRecord
from tests.shop import declared, shop


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    return shop()


class Quiet:
    def on_epoch_end(self, record: EpochRecord) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"early_stopping": 3}, "early_stopping must be recs.EarlyStopping"),
        ({"early_stopping": recs.EarlyStopping}, "got the class recs_core.training.early_stopping.EarlyStopping"),
        ({"schedule": lambda step: 0.1}, r"schedule is recs\.Schedule"),
        ({"optimizer": "adam"}, r"optimizer must be recs\.Adam.*got str"),
        ({"callbacks": Quiet()}, "callbacks: expected a list, got Quiet"),
        ({"callbacks": print}, "callbacks: expected a list, got print"),
        ({"callbacks": [print]}, r"callbacks\[0\]: print has no on_epoch_end"),
        ({"callbacks": [Quiet(), Quiet]}, r"callbacks\[1\]: the class Quiet has no on_epoch_end"),
        ({"callbacks": [recs.EarlyStopping("loss")]}, "pass it as early_stopping="),
        ({"validate_every": 0}, "validate_every must be a whole number ≥ 1, got 0"),
        ({"validate_every": 1.5}, "validate_every must be a whole number ≥ 1, got 1.5"),
        ({"checkpoint_every": True}, "checkpoint_every must be a whole number ≥ 1, got True"),
        ({"progress": "x"}, "progress is True, False or None"),
        ({"k": [0]}, "k must be whole numbers from 1"),
        ({"k": "10"}, "k must be whole numbers from 1"),
        ({"epochs": 0}, "needs epochs ≥ 1"),
        ({"drop_last": 1}, "drop_last is True or False"),
        ({"pool_rows": 0}, "pool_rows is a whole number ≥ 1 or None, got 0"),
        ({"pool_rows": 9, "batch_by": "query"}, "pool_rows=9 are interactions: pass batch_by='interaction'"),
    ],
)
def test_settings_are_checked_before_training(data: recs.Interactions, options: dict[str, object], said: str) -> None:
    model = declared()
    with pytest.raises(SpecError, match=said) as caught:
        model.fit(data, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and model.position.epoch == 0 and not model.history.losses


def test_another_frameworks_callback_is_refused_before_training(data: recs.Interactions) -> None:
    class Timer:
        __module__ = "lightning.pytorch.callbacks"

        def on_train_epoch_end(self, trainer: object, module: object) -> None:
            """Nothing."""

    with pytest.raises(SpecError, match=r"callbacks\[0\]: Timer is a callback of lightning"):
        declared().fit(data, callbacks=[Timer()])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retrieval": "cosine"}, r"retrieval must be recs\.RetrievalSpec.*got str"),
        ({"retrieval": {"scoring": "dot"}}, r"retrieval must be recs\.RetrievalSpec.*got dict"),
        ({"dtype": "bfloat16"}, "dtype is 'float32' or 'float64', got 'bfloat16'"),
        ({"dtype": np.float32}, "dtype is 'float32' or 'float64'"),
        (
            {"query": [recs.Categorical("user", dim=4)]},
            r"query must be a recs.TowerSpec, got list; write recs.TowerSpec",
        ),
        ({"candidate": recs.Categorical("item", dim=4)}, r"candidate must be .* got Categorical; write recs.TowerSpec"),
        ({"query": None}, "query must be a recs.TowerSpec, got NoneType"),
        ({"query": recs.TowerSpec}, "query must be a recs.TowerSpec, got the class TowerSpec"),
        ({"optimizer": recs.Adam}, "optimizer must be .* got the class recs_core.contract.optimizers.Adam"),
        ({"training": {"epochs": 3}}, r"training must be recs\.TrainingSpec.*got dict"),
        ({"seed": "7"}, "seed must be a whole number"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused_when_made(options: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        declared(**options)


def test_a_frameworks_own_optimizer_is_refused_when_made() -> None:
    class Adam:
        __module__ = "torch.optim"

    with pytest.raises(SpecError, match=r"optimizer must be recs\.Adam.*got torch\.optim\..*Adam"):
        declared(optimizer=Adam())


@pytest.mark.parametrize(
    "make",
    [
        lambda: recs.EarlyStopping("loss", patience=0),
        lambda: recs.EarlyStopping("loss", patience=1.5),
        lambda: recs.EarlyStopping(3),
        lambda: recs.EarlyStopping("loss", min_delta=float("nan")),
        lambda: recs.EarlyStopping("loss", min_delta=-1),
        lambda: recs.Adam(0.1, beta_1="a"),
        lambda: recs.Adam(0.1, epsilon=None),
        lambda: recs.Adagrad(0.1, initial_accumulator="0"),
        lambda: recs.Schedule(warmup="10%"),
        lambda: recs.Schedule(final=float("nan")),
        lambda: recs.TrainingSpec(schedule=0.1),
    ],
)
def test_numbers_out_of_range_or_of_another_type_are_refused(make) -> None:
    with pytest.raises(SpecError):
        make()
