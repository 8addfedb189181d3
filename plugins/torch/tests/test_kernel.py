"""The blocked softmax: its gradients, block borders, and memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from recs_core_torch import kernel
from torch.nn import functional as F

from recs_core.conformance.worlds import many_targets
from recs_core.contract.batch import Ragged
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import TaskPlan, plan_task
from recs_core.reference import task as reference


def case(seed: int) -> tuple[RetrievalSpec, int, int, dict[str, Any]]:
    """A seeded task: its spec, numbers of queries and columns, and arguments."""
    random = np.random.default_rng(seed)
    kind = ["in-batch", "uniform", "mixed", "corpus"][seed % 4]
    by_query = bool(random.integers(2))
    sampled = 4 if kind in ("uniform", "mixed") else None
    spec = RetrievalSpec(
        scoring="dot",
        temperature=0.5,
        learn_temperature=True,
        negatives=kind,
        num_negatives=sampled,
        logq=[True, False, "refined"][int(random.integers(3))],
        remove_accidental_hits=bool(random.integers(2)),
        mask_positives=bool(random.integers(2)),
        hard_negatives=[None, 2][int(random.integers(2))],
        reduction=["mean", "sum"][int(random.integers(2))],
    )
    queries, corpus = int(random.integers(1, 6)), 8
    query = np.repeat(np.arange(queries), random.integers(1, 4, queries)) if by_query else np.arange(queries)
    liked = random.integers(0, corpus, len(query))
    column, start, drawn = np.arange(len(query)), 0, random.integers(0, corpus, 4)
    if kind == "corpus":
        ids, column = np.arange(corpus), liked
    elif kind == "uniform":
        distinct, column = np.unique(liked, return_inverse=True)
        ids, start = np.concatenate([distinct, drawn]), len(distinct)
    else:
        ids = np.concatenate([liked, drawn]) if kind == "mixed" else liked
    inputs: dict[str, Any] = {
        "target_query": query.astype(np.int32),
        "target_candidate": column.astype(np.int32),
        "sample_weight": random.random(len(query)),
        "candidate_ids": ids.astype(np.int32),
        "negatives_from": start,
    }
    if spec.corrects:
        inputs["candidate_sampling_probability"] = random.uniform(0.01, 0.3, len(ids))
    if spec.mask_positives:
        known = [np.flatnonzero(np.isin(ids, liked[query == q])) for q in range(queries)]
        offsets = np.cumsum([0, *map(len, known)]).astype(np.int32)
        inputs["positives"] = Ragged(np.concatenate(known).astype(np.int32), offsets)
    if random.integers(3) == 0:
        inputs["score_mask"] = random.random((queries, len(ids))) < 0.7
    return spec, queries, len(ids), inputs


def leaves(queries: int, columns: int, seed: int) -> list[torch.Tensor]:
    """Query, candidate, bias and log-temperature in float64."""
    random = np.random.default_rng(seed)
    arrays = (
        random.normal(size=(queries, 4)),
        random.normal(size=(columns, 4)),
        random.normal(size=columns),
        math.log(0.5),
    )
    return [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays]


def loss_of(
    plan: TaskPlan,
    query: torch.Tensor,
    candidate: torch.Tensor,
    bias: torch.Tensor | None = None,
    log_temperature: torch.Tensor | None = None,
) -> torch.Tensor:
    """The kernel's loss; a log-temperature of 0 unless given."""
    log_temperature = torch.zeros(()) if log_temperature is None else log_temperature
    return kernel.loss(query, candidate, bias, log_temperature, kernel.pack(plan, query))


def blocks_of(rows: int, monkeypatch: pytest.MonkeyPatch, *, cores: int = 1) -> None:
    """Let the kernel work on so many rows a core."""
    monkeypatch.setattr(kernel, "CORE_ROWS", rows)
    monkeypatch.setattr(kernel, "CORE_SCORES", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)


@pytest.mark.parametrize(("rows", "cores", "safe"), [(2, 1, kernel.SAFE), (2, 3, -1.0), (256, 2, kernel.SAFE)])
@pytest.mark.parametrize("seed", range(24))
def test_loss_and_gradients_are_the_oracles(
    monkeypatch: pytest.MonkeyPatch, seed: int, rows: int, cores: int, safe: float
) -> None:
    blocks_of(rows, monkeypatch, cores=cores)
    monkeypatch.setattr(kernel, "SAFE", safe)
    spec, queries, columns, inputs = case(seed)
    given = leaves(queries, columns, seed)
    plan = plan_task(spec, queries, columns, **inputs)
    loss = loss_of(plan, *given)
    gradients = torch.autograd.grad(loss, given)
    arrays = [tensor.detach().numpy() for tensor in given]
    expected = reference.loss_and_gradients(spec, *arrays[:3], float(arrays[3]), **inputs)
    assert loss.item() == pytest.approx(expected.loss, rel=1e-12, abs=1e-12)
    wanted = (expected.query, expected.candidate, expected.bias, expected.log_temperature)
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_gradcheck(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    blocks_of(2, monkeypatch, cores=2)
    spec, queries, columns, inputs = case(seed)
    plan = plan_task(spec, queries, columns, **inputs)
    given = leaves(queries, columns, seed)
    assert torch.autograd.gradcheck(lambda *tensors: loss_of(plan, *tensors), given)


def test_gradcheck_where_each_target_is_among_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(2, monkeypatch)
    world = many_targets()
    plan = plan_task(world.spec, len(world.query), len(world.candidate), **world.inputs)
    assert plan.place is not None
    arrays = (world.query, world.candidate, world.bias, np.array(world.log_temperature))
    given = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays]
    assert torch.autograd.gradcheck(lambda *tensors: loss_of(plan, *tensors), given)
    expected = reference.loss_and_gradients(world.spec, *arrays[:3], world.log_temperature, **world.inputs)
    assert loss_of(plan, *given).item() == pytest.approx(expected.loss, rel=1e-12)


def test_plain_batch_is_cross_entropy() -> None:
    """No option on: the loss a PyTorch user knows."""
    torch.manual_seed(0)
    spec = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
    query, candidate = (torch.randn(300, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = F.cross_entropy(query @ candidate.T, torch.arange(300))
    got = loss_of(plan_task(spec, 300, 300), query, candidate)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0.0)
    for a, b in zip(*(torch.autograd.grad(loss, (query, candidate)) for loss in (got, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_all_items_equal_leaves_no_negative() -> None:
    spec = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False)
    query, candidate = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    plan = plan_task(spec, 5, 5, candidate_ids=np.full(5, 7))
    loss = loss_of(plan, query, candidate)
    assert loss.item() == 0
    assert all(g.abs().max() == 0 for g in torch.autograd.grad(loss, (query, candidate)))


def test_scores_of_any_size_stay_finite() -> None:
    spec = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
    query = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    candidate = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    loss = loss_of(plan_task(spec, 2, 2), query, candidate)
    assert loss.item() == 0
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, (query, candidate)))


@pytest.mark.parametrize("length", [1.0, 6.0, 6.9, 20.0])
def test_scores_of_either_sign_and_any_length_are_the_oracles(length: float) -> None:
    """On both sides of `SAFE`: the longest products are 1, 36, 47.6 and 400."""
    spec = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
    random = np.random.default_rng(0)
    query, candidate = (random.normal(size=(64, 3)) for _ in range(2))
    query, candidate = (length * x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, candidate))
    given = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in (query, candidate)]
    loss = loss_of(plan_task(spec, 64, 64), *given)
    expected = reference.loss_and_gradients(spec, *(x.detach().numpy() for x in given), np.zeros(64), 0.0)
    assert loss.item() == pytest.approx(expected.loss, rel=1e-5)
    for got, want in zip(torch.autograd.grad(loss, given), (expected.query, expected.candidate), strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_score_of_36_overflows_no_dtype(dtype: torch.dtype) -> None:
    """Its exp is beyond float16."""
    spec = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
    query, candidate = (torch.tensor([[6.0], [-6.0]], dtype=dtype, requires_grad=True) for _ in range(2))
    loss = loss_of(plan_task(spec, 2, 2), query, candidate)
    assert loss.item() == 0
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, (query, candidate)))


def test_a_row_without_negatives_keeps_a_score_far_below_the_others() -> None:
    """All its columns masked, its own no negative and 400 below: no loss, as nothing else is in the sum."""
    spec = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
    query = torch.tensor([[1.0]], requires_grad=True)
    candidate = torch.tensor([[-400.0], [1.0]], requires_grad=True)
    plan = plan_task(spec, 1, 2, target_candidate=[0], negatives_from=1, score_mask=np.zeros((1, 2), bool))
    loss = loss_of(plan, query, candidate)
    assert loss.item() == 0
    assert all(g.abs().max() == 0 for g in torch.autograd.grad(loss, (query, candidate)))


def test_no_tensor_is_as_large_as_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 512 rows in blocks of 16, nothing allocated holds more than a block's scores."""
    blocks_of(16, monkeypatch)
    size, dim = 512, 4
    spec = RetrievalSpec(scoring="dot", temperature=1.0, logq=False)
    query, candidate = (torch.randn(size, dim, requires_grad=True) for _ in range(2))
    bias = torch.zeros(size, requires_grad=True)
    plan = plan_task(spec, size, size, candidate_ids=np.arange(size) % 50)
    largest = _Largest()
    with largest:
        loss_of(plan, query, candidate, bias).backward()
    assert 16 * size <= largest.elements <= 16 * size + size


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result
