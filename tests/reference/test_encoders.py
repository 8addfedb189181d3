"""The oracle's encoders against finite differences, and against what their formulas imply."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from recs_core.contract.encoders import GRU, EncoderPlan, SelfAttention
from recs_core.reference.encoders import Weights, encode

Array = NDArray[np.float64]

ATTENTION = [
    SelfAttention(layers=2, heads=heads, ffn=2, activation=activation, gate=gate, position=position)
    for heads, activation, gate, position in itertools.product(
        (1, 2), ("swiglu", "relu"), (True, False), ("rotary", "learned", None)
    )
]
TIMED = [SelfAttention(layers=2, heads=heads, ffn=1, time="history") for heads in (1, 2)]
SPECS = [*ATTENTION, *TIMED, GRU(layers=1), GRU(layers=2)]
WIDTH, LENGTH = 4, 5
TIMES = np.array([0.0, 3.0, 3.5, 3e3, 2e8])
AGO = TIMES[:, None] - TIMES[None]


def drawn(spec: GRU | SelfAttention, seed: int) -> tuple[dict[str, Array], Array, dict[str, Array]]:
    """Weights, the rows of a history and keep masks, none of them at a special value."""
    random = np.random.default_rng(seed)
    weights = {name: random.normal(size=part.shape) * 0.5 for name, part in spec.parts(WIDTH, LENGTH).items()}
    keep = {name: random.uniform(0.5, 1.5, (LENGTH, width)) for name, width in spec.masked(WIDTH).items()}
    return weights, random.normal(size=(LENGTH, WIDTH)), keep


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_gradients_are_those_of_finite_differences(spec: GRU | SelfAttention) -> None:
    values, x, keep = drawn(spec, 1)
    toward = np.random.default_rng(2).normal(size=x.shape)

    def loss(values: dict[str, Array], x: Array) -> float:
        return float((encode(spec, Weights(values), x, keep, AGO)[0] * toward).sum())

    weights = Weights(values)
    found = weights.gradients | {"x": encode(spec, weights, x, keep, AGO)[1](toward)}
    for name, array in {**values, "x": x}.items():
        numeric = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            step = np.zeros_like(array)
            step[place] = 1e-6
            up, down = ({**values, "x": x, name: array + sign * step} for sign in (1, -1))
            numeric[place] = (loss(up, up["x"]) - loss(down, down["x"])) / 2e-6
        np.testing.assert_allclose(found[name], numeric, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_a_row_reads_nothing_later(spec: GRU | SelfAttention) -> None:
    values, x, keep = drawn(spec, 3)
    whole = encode(spec, Weights(values), x, keep, AGO)[0]
    first = encode(spec, Weights(values), x[:3], {name: mask[:3] for name, mask in keep.items()}, AGO[:3, :3])[0]
    np.testing.assert_allclose(first, whole[:3], rtol=1e-13)


def test_rotary_scores_depend_on_distance_alone() -> None:
    """Two codes after a third, whose value is 0 and whose key scores − 50: as if it were not there."""
    from recs_core.reference.encoders import _rotated

    random = np.random.default_rng(4)
    q, k = random.normal(size=(2, 4, 8))
    scores = _rotated(q, 2) @ _rotated(k, 2).T
    shifted = np.concatenate([np.zeros((3, 8)), q]), np.concatenate([np.zeros((3, 8)), k])
    later = (_rotated(shifted[0], 2) @ _rotated(shifted[1], 2).T)[3:, 3:]
    np.testing.assert_allclose(later, scores, rtol=1e-12)


def test_one_gru_step_by_hand() -> None:
    """Width 1, x = 2, h = 0, all weights 1, biases 0: r = z = σ(2), n = tanh(2), h = (1 − σ(2)) tanh(2)."""
    weights = Weights(
        {
            "layer_0/input/kernel": np.ones((1, 3)),
            "layer_0/input/bias": np.zeros(3),
            "layer_0/state/kernel": np.ones((1, 3)),
            "layer_0/state/bias": np.zeros(3),
        }
    )
    keep = {"input": np.ones((1, 1)), "layer_0/output": np.ones((1, 1))}
    out, _ = encode(GRU(), weights, np.array([[2.0]]), keep)
    assert out[0, 0] == pytest.approx((1 - 0.8807970779778823) * 0.9640275800758169, rel=1e-12)


def test_attention_by_hand() -> None:
    """Two codes of one number, without position, gate or feed-forward weight. Width 1 normalises to 0: with biases
    alone, Q = K = 0, so row 1 averages the values, which are the bias."""
    spec = SelfAttention(layers=1, ffn=1, activation="relu", gate=False, position=None)
    values = {name: np.zeros(part.shape) for name, part in spec.parts(2, 2).items()}
    values |= {f"layer_0/normal_{i}/scale": np.ones(2) for i in (1, 2)} | {"normal/scale": np.ones(2)}
    values["layer_0/value/kernel"] = np.eye(2)
    values["layer_0/output/kernel"] = np.eye(2)
    keep = {name: np.ones((1, 1)) for name in spec.masked(2)}
    out, _ = encode(spec, Weights(values), np.array([[3.0, 1.0], [2.0, 6.0]]), keep)
    # normal: [1, −1] and [−1, 1] but for epsilon; row 0 adds [1, −1], row 1 the mean, [0, 0]
    a = 1 / np.sqrt(1 + 1e-5)
    b = 2 / np.sqrt(4 + 1e-5)
    rows = np.array([[3 + a, 1 - a], [2 + (a - b) / 2, 6 - (a - b) / 2]])
    centred = rows - rows.mean(1, keepdims=True)
    np.testing.assert_allclose(out, centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5), rtol=1e-12)


def test_a_time_bias_by_hand() -> None:
    """As above, with a bias of ln 3 for what was 60 seconds ago, bucket ⌊ln 60 / 0.301⌋ = 13: row 1 is a quarter of
    its own value and three of the one before."""
    spec = SelfAttention(layers=1, ffn=1, activation="relu", gate=False, position=None, time="history")
    values = {name: np.zeros(part.shape) for name, part in spec.parts(2, 2).items()}
    values |= {f"layer_0/normal_{i}/scale": np.ones(2) for i in (1, 2)} | {"normal/scale": np.ones(2)}
    values |= {"layer_0/value/kernel": np.eye(2), "layer_0/output/kernel": np.eye(2)}
    values["layer_0/time"][13] = np.log(3)
    keep = {name: np.ones((1, 1)) for name in spec.masked(2)}
    ago = np.array([[0.0, -60.0], [60.0, 0.0]])
    out, _ = encode(spec, Weights(values), np.array([[3.0, 1.0], [2.0, 6.0]]), keep, ago)
    a, b = 1 / np.sqrt(1 + 1e-5), 2 / np.sqrt(4 + 1e-5)
    rows = np.array([[3 + a, 1 - a], [2 + (3 * a - b) / 4, 6 - (3 * a - b) / 4]])
    centred = rows - rows.mean(1, keepdims=True)
    np.testing.assert_allclose(out, centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5), rtol=1e-12)


def test_names_and_shapes_of_a_plan() -> None:
    plan = EncoderPlan(SelfAttention(layers=1, ffn=2, position="learned"), "query/encoder/item", 4, 7)
    shapes = {name: part.shape for name, part in plan.parts.items()}
    assert shapes["query/encoder/item/position"] == (7, 4)
    assert shapes["query/encoder/item/layer_0/ffn_2/kernel"] == (8, 4)
    assert plan.masked == {"input": 4, "layer_0/attention": 4, "layer_0/hidden": 8, "layer_0/output": 4}
