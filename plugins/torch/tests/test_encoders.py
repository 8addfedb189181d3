"""Encoders: PyTorch's own GRU, attention one history at a time, how histories are laid out, a loop of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recs_core_torch import loader
from recs_core_torch.encoders import build
from recs_core_torch.sequences import Layout, TensorSequences
from torch import nn

import recs_core as recs
from recs_core.contract.batch import Ragged, Sequences
from recs_core.contract.encoders import GRU, EncoderPlan, SelfAttention

WIDTH, LENGTH = 8, 40
LIKE = torch.empty(0, dtype=torch.float64)


def encoder(spec: GRU | SelfAttention) -> tuple[nn.Module, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    plan = EncoderPlan(spec, "query/encoder/item", WIDTH, LENGTH)
    weights = {name: random.normal(size=part.shape) * 0.4 for name, part in plan.parts.items()}
    return build(plan, weights, LIKE), weights


def layout(lengths: list[int]) -> Layout:
    return Layout(np.cumsum([0, *lengths]).astype(np.int64))


def test_a_gru_is_pytorchs_own() -> None:
    made, weights = encoder(GRU(layers=2, dropout=0))
    own = nn.GRU(WIDTH, WIDTH, num_layers=2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for i in range(2):
            for part, name in (("input", "ih"), ("state", "hh")):
                prefix = f"query/encoder/item/layer_{i}/{part}"
                getattr(own, f"weight_{name}_l{i}").copy_(torch.from_numpy(weights[f"{prefix}/kernel"].T))
                getattr(own, f"bias_{name}_l{i}").copy_(torch.from_numpy(weights[f"{prefix}/bias"]))
    lengths = [3, 0, 7, 1]
    x = torch.randn(sum(lengths), WIDTH, dtype=torch.float64)
    got = made(x, layout(lengths), {})
    expected = torch.cat([own(part[None])[0][0] for part in x.split(lengths) if len(part)])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lengths", [[40, 40, 40], [1, 30, 0, 40, 2, 39], [5], [0, 3, 3]])
def test_histories_beside_each_other_are_as_each_alone(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recs_core_torch.sequences.MIN_CODES", 16)  # several blocks
    made, _ = encoder(SelfAttention(layers=2, heads=2, dropout=0))
    x = torch.randn(sum(lengths), WIDTH, dtype=torch.float64, requires_grad=True)
    got = made(x, layout(lengths), {})
    alone = torch.cat([made(part, layout([len(part)]), {}) for part in x.split(lengths) if len(part)])
    torch.testing.assert_close(got, alone, rtol=1e-12, atol=1e-12)
    toward = torch.randn_like(got)
    torch.testing.assert_close(
        torch.autograd.grad(got, x, toward)[0], torch.autograd.grad(alone, x, toward)[0], rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("heads", [1, 2])
def test_a_time_bias_is_pytorchs_own_attention_with_a_mask(heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, the bias looked up history by history and added as a mask."""
    monkeypatch.setattr("recs_core_torch.sequences.MIN_CODES", 16)  # several blocks
    made, _ = encoder(SelfAttention(layers=1, heads=heads, position=None, time="request", dropout=0))
    lengths, random = [30, 0, 2, 40, 1], np.random.default_rng(2)
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    times = 1e9 + np.cumsum(np.exp(random.uniform(-1, 15, sum(lengths))))
    timed = Layout(offsets, times, times + 77)
    x = torch.randn(sum(lengths), WIDTH, dtype=torch.float64, requires_grad=True)
    bias = made.weight("layer_0/time")

    def attend(qkv: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        assert bias is not None
        out = []
        for part, at in zip(qkv.split(lengths), torch.from_numpy(times).split(lengths), strict=True):
            q, k, v = part.view(1, len(part), 3, heads, WIDTH // heads).permute(2, 0, 3, 1, 4)
            bucket = ((at[:, None] + 77 - at[None]).clamp(min=1).log() / 0.301).long().clamp(max=127)
            mask = bias[bucket].permute(2, 0, 1).masked_fill(~torch.ones_like(bucket).tril().bool(), -torch.inf)
            drawn = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[None])
            out.append(drawn.transpose(1, 2).reshape(len(part), WIDTH))
        return torch.cat(out)

    got = made(x, timed, {})
    expected = made.run(x, torch.from_numpy(timed.place), attend, {})
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    toward = torch.randn_like(got)
    for found, own in zip(
        torch.autograd.grad(got, [x, bias], toward), torch.autograd.grad(expected, [x, bias], toward), strict=True
    ):
        torch.testing.assert_close(found, own, rtol=1e-11, atol=1e-12)


def test_padding_stays_within_its_bound() -> None:
    lengths = np.random.default_rng(1).integers(1, 200, 300).tolist()
    made = layout(lengths)
    places = sum(number * length for number, length in made.blocks)
    assert sum(number for number, _ in made.blocks) == 300
    assert places <= 1.15 * sum(lengths) + 1024
    assert made.padded is not None
    assert len(np.unique(made.padded)) == sum(lengths)


def test_rows_read_their_places_and_empty_histories_zeros() -> None:
    held = TensorSequences.of(Sequences(Ragged.of([[4, 5], [], [6]]), np.array([1, -1, 2, 0], np.int32)))
    encoded = torch.arange(6.0).reshape(3, 2)
    assert held.read(encoded).tolist() == [[2, 3], [0, 0], [4, 5], [0, 1]]
    nothing = TensorSequences.of(Sequences.last(Ragged.of([[], []])))
    assert nothing.read(encoded[:0]).tolist() == [[0, 0], [0, 0]]


def test_a_loop_of_ones_own_goes_as_fit_does() -> None:
    rows = {"user": np.repeat(np.arange(9), 6), "item": np.arange(54) % 11, "ts": np.arange(54)}
    data = recs.Interactions.from_table(rows, query="user", candidate="item", timestamp="ts")
    history = recs.History("item", dim=4, max_length=5, encoder=recs.SelfAttention(layers=1, ffn=2, dropout=0.3))

    def model() -> recs.TwoTower:
        return recs.TwoTower(
            recs.TowerSpec([history]),
            recs.TowerSpec([recs.Categorical("item", dim=4)]),
            recs.RetrievalSpec(negatives="corpus", mask_positives=True),
            recs.SGD(0.1),
            training=recs.TrainingSpec(epochs=1, batch_size=4, batch_by="sequence"),
            backend="torch",
            dtype="float64",
        )

    fitted, own = model(), model()
    fitted.fit(data, progress=False)
    query, candidate, task = own.build(data).model.children()
    optimizer = torch.optim.SGD(own.model.parameters(), lr=0.1)
    for batch in loader(own, data):
        optimizer.zero_grad()
        task(query(batch), candidate(batch), **batch.task).backward()
        optimizer.step()
    for name, weight in fitted.weights().items():
        np.testing.assert_allclose(own.weights()[name], weight, rtol=1e-9, atol=1e-11, err_msg=name)
