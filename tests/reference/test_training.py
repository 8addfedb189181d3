"""The oracle's optimizers and steps: by hand, and against finite differences through both towers."""

import numpy as np
import pytest

from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.optimizers import SGD, Adagrad, Adam, RowWiseAdagrad
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.reference import training
from recs_core.reference.optimizers import clipped, initial_state, update

LR = 0.5


def one_update(optimizer, name="table/a", step=1, touched=(1,), slots=None):
    weight, gradient = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [3.0, -4.0]])
    state = initial_state(optimizer, {name: weight})
    slots = slots or {slot: state[f"{name}/{slot}"] for slot in optimizer.slots}
    rows = None if touched is None else np.array(touched)
    return update(optimizer, name, weight, gradient, slots=slots, touched=rows, learning_rate=LR, step=step)


def test_sgd_with_momentum():
    slots = {"velocity": np.array([[7.0, 7.0], [10.0, 20.0]])}
    weight, after = one_update(SGD(momentum=0.1), slots=slots)
    np.testing.assert_allclose(after["velocity"], [[7, 7], [4, -2]])
    np.testing.assert_allclose(weight, [[1, 2], [3 - LR * 4, 4 + LR * 2]])


def test_sgd_without_momentum_keeps_nothing():
    weight, slots = one_update(SGD())
    np.testing.assert_allclose(weight, [[1, 2], [3 - LR * 3, 4 + LR * 4]])
    assert not slots and set(initial_state(SGD(), {"table/a": weight})) == {"step"}


def test_adagrad():
    weight, slots = one_update(Adagrad(initial_accumulator=16.0, epsilon=0.5))
    np.testing.assert_allclose(slots["accumulator"], [[16, 16], [25, 32]])
    np.testing.assert_allclose(weight, [[1, 2], [3 - LR * 3 / 5.5, 4 + LR * 4 / (np.sqrt(32) + 0.5)]])


def test_row_wise_adagrad_holds_one_number_a_row_of_a_table():
    weight, slots = one_update(RowWiseAdagrad(initial_accumulator=3.5, epsilon=1.0))
    np.testing.assert_allclose(slots["accumulator"], [3.5, 3.5 + 12.5])
    np.testing.assert_allclose(weight, [[1, 2], [3 - LR * 3 / 5, 4 + LR * 4 / 5]])


def test_row_wise_adagrad_is_adagrad_on_a_dense_weight():
    weight, slots = one_update(RowWiseAdagrad(initial_accumulator=16.0), "query/dense_0/kernel", touched=None)
    assert slots["accumulator"].shape == weight.shape
    assert weight[1, 0] == pytest.approx(3 - LR * 3 / (5 + 1e-7))


def test_the_first_adam_step_is_the_sign_of_the_gradient():
    weight, slots = one_update(Adam(epsilon=1e-12))
    np.testing.assert_allclose(weight, [[1, 2], [3 - LR, 4 + LR]])
    np.testing.assert_allclose(slots["m"], [[0, 0], [0.3, -0.4]])
    np.testing.assert_allclose(slots["v"], [[0, 0], [0.009, 0.016]])


def test_adams_epsilon_stands_outside_the_root():
    weight, _ = one_update(Adam(epsilon=1.0))
    np.testing.assert_allclose(weight[1], [3 - LR * 3 / (3 + 1), 4 + LR * 4 / (4 + 1)])


def test_adam_counts_steps_once_for_all_rows():
    weight, _ = one_update(Adam(epsilon=1e-12), step=3)
    m, v = 0.3 / (1 - 0.9**3), 0.009 / (1 - 0.999**3)
    assert weight[1, 0] == pytest.approx(3 - LR * m / np.sqrt(v))


@pytest.mark.parametrize("dense", [False, True])
def test_only_dense_adam_moves_rows_that_the_batch_does_not_name(dense):
    slots = {"m": np.ones((2, 2)), "v": np.ones((2, 2))}
    weight, after = one_update(Adam(dense=dense, weight_decay=0.1), step=2, slots=slots)
    assert (weight[0] != [1, 2]).all() == dense
    assert (after["m"][0] == 0.9).all() == dense
    assert (after["m"][0] == 1.0).all() != dense


def test_decay_is_decoupled_and_spares_the_task():
    weight, slots = one_update(Adagrad(initial_accumulator=16.0, epsilon=0.5, weight_decay=0.2))
    np.testing.assert_allclose(weight, [[1, 2], [3 * 0.9 - LR * 3 / 5.5, 4 * 0.9 + LR * 4 / (np.sqrt(32) + 0.5)]])
    np.testing.assert_allclose(slots["accumulator"][1], [25, 32])
    spared, _ = one_update(Adagrad(weight_decay=0.2), "task/bias")
    plain, _ = one_update(Adagrad(), "task/bias")
    np.testing.assert_array_equal(spared, plain)


def test_clipping_scales_all_gradients_by_one_norm():
    gradients = {"a": np.array([3.0]), "b": np.array([[0.0, 4.0]])}
    np.testing.assert_allclose(clipped(gradients, 1.0)["b"], [[0, 0.8]])
    np.testing.assert_allclose(clipped(gradients, 9.0)["a"], [3.0])


MODEL = training.Model(
    TowerSpec([Categorical("user", dim=3), History("item", dim=3)], layers=[2], activation="tanh"),
    TowerSpec([Categorical("item", dim=3)], layers=[2], activation="tanh"),
    RetrievalSpec(temperature=0.5, learn_temperature=True, logq=False),
)


def world():
    """Three interactions; the history and the candidate share table/item, rows 0 … 4, of which 4 is untouched."""
    random = np.random.default_rng(3)
    shapes = {
        "table/user": (4, 3),
        "table/item": (5, 3),
        "query/dense_0/kernel": (6, 2),
        "query/dense_0/bias": (2,),
        "candidate/dense_0/kernel": (3, 2),
        "candidate/dense_0/bias": (2,),
        "task/bias": (4,),
        "task/log_temperature": (),
    }
    weights = {name: random.normal(size=shape) for name, shape in shapes.items()}
    history = Ragged(np.array([0, 2, 2], np.int32), np.array([0, 2, 2, 3], np.int32))
    batch = Batch(
        rows={
            "table/user": np.array([1, 3], np.int32),
            "table/item": np.array([0, 1, 3], np.int32),
            "task/bias": np.array([0, 2], np.int32),
        },
        query=Features(3, {"user": np.array([0, 1, 0], np.int32), "item": history}),
        candidate=Features(3, {"item": np.array([1, 2, 1], np.int32)}),
        task={"candidate_ids": np.array([0, 2, 0], np.int32)},
        bias_codes=np.array([0, 1, 0], np.int32),
    )
    return weights, batch


def test_a_steps_gradients_are_the_derivatives_of_its_loss():
    weights, batch = world()
    _, gradients = training.gradients(MODEL, weights, batch)
    assert set(gradients) == set(weights)
    for name, weight in weights.items():
        numeric = np.zeros_like(weight)
        for at in np.ndindex(np.shape(weight)):
            ends = []
            for sign in (1, -1):
                moved = np.array(weight)
                moved[at] += sign * 1e-6
                ends.append(training.gradients(MODEL, {**weights, name: moved}, batch)[0])
            numeric[at] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradients[name], numeric, atol=1e-8, err_msg=name)


def test_a_step_moves_the_rows_of_its_batch_and_no_others():
    weights, batch = world()
    result = training.step(MODEL, Adam(), weights, initial_state(Adam(), weights), batch)
    moved = np.flatnonzero((result.weights["table/item"] != weights["table/item"]).any(axis=1))
    np.testing.assert_array_equal(moved, [0, 1, 3])
    assert result.state["step"] == 1


def test_padding_rows_change_nothing():
    weights, batch = world()
    padded = Batch(
        rows={**batch.rows, "table/item": np.array([0, 1, 3, 5, 5], np.int32)},
        query=batch.query,
        candidate=batch.candidate,
        task=batch.task,
        bias_codes=batch.bias_codes,
    )
    state = initial_state(Adam(), weights)
    a, b = (training.step(MODEL, Adam(), weights, state, each) for each in (batch, padded))
    for name in weights:
        np.testing.assert_array_equal(a.weights[name], b.weights[name])


def test_a_trajectory_is_one_step_after_another():
    weights, batch = world()
    losses, _, state = training.trajectory(MODEL, Adagrad(), weights, [batch] * 5)
    assert losses == sorted(losses, reverse=True)
    assert state["step"] == 5
