"""TorchRS's API: the published program runs, and each known defect of the original is gone."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recs_core_torch.torchrs import data, metrics, models, tasks
from torch import nn
from torch.nn import functional as F

from recs_core.contract.errors import DataError, NotFitted, SpecError
from recs_core.contract.retrieval import RetrievalSpec

PROGRAM = Path(__file__).parents[3] / "examples" / "report_torchrs.py"


def vectors(rows: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    """Random vectors."""
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def two_towers(task: tasks.Retrieval | None = None, *, users: int = 6, items: int = 10) -> models.RetrievalModel:
    """A model of two plain tables."""
    torch.manual_seed(0)
    return models.RetrievalModel(nn.Embedding(users, 4), nn.Embedding(items, 4), task or tasks.Retrieval())


def test_the_published_program_runs() -> None:
    run = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, check=True)
    assert "Top 5 recommendations for user 0: tensor([" in run.stdout
    assert "from recs_core_torch.torchrs import models, tasks, metrics, data\n" in PROGRAM.read_text()


# The loss


def test_every_other_row_is_a_negative() -> None:
    """The original's four next rows gave 4.17 where the whole batch gives 8.17."""
    query, candidate = vectors(64), vectors(64, seed=1)
    expected = F.cross_entropy(query @ candidate.T, torch.arange(64))
    torch.testing.assert_close(tasks.Retrieval()(query, candidate), expected)


def test_the_same_item_is_no_negative() -> None:
    """A batch of one item had a loss of ln 5 that no model could lower."""
    same = torch.full((8,), 3)
    assert tasks.Retrieval()(vectors(8), vectors(8, seed=1), same).item() == 0
    ids = torch.tensor([1, 2, 1])
    query, candidate = vectors(3), vectors(3, seed=1)
    scores = (query @ candidate.T).masked_fill(torch.tensor([[0, 0, 1], [0, 0, 0], [1, 0, 0]]).bool(), -math.inf)
    torch.testing.assert_close(tasks.Retrieval()(query, candidate, ids), F.cross_entropy(scores, torch.arange(3)))


def test_a_small_batch_still_learns() -> None:
    """Fewer than five rows changed the number of classes; one row gave no gradient even with negatives at hand."""
    query = vectors(1).requires_grad_()
    loss = tasks.Retrieval()(query, vectors(1, seed=1), None, vectors(3, seed=2))
    loss.backward()
    assert loss.item() > 0
    assert query.grad.abs().max() > 0
    assert tasks.Retrieval()(vectors(1), vectors(1, seed=1)).item() == 0  # nothing to tell apart, and finite


def test_given_negatives_come_on_top_of_the_batch() -> None:
    query, candidate, extra = vectors(4), vectors(4, seed=1), vectors(3, seed=2)
    expected = F.cross_entropy(query @ torch.cat([candidate, extra]).T, torch.arange(4))
    torch.testing.assert_close(tasks.Retrieval()(query, candidate, None, extra), expected)


def test_ids_are_no_embeddings() -> None:
    """Ids of the right shape went in silently."""
    with pytest.raises(DataError, match="item model first"):
        tasks.Retrieval()(vectors(4), vectors(4), None, torch.ones(4, 8, dtype=torch.long))


def test_negative_ids_go_through_the_item_model() -> None:
    model = two_towers()
    users, items, negatives = torch.tensor([0, 1]), torch.tensor([3, 4]), torch.tensor([3, 9])
    scores = model.user_model(users) @ model.item_model(torch.cat([items, negatives])).T
    scores[0, 2] = -math.inf  # item 3 is user 0's own
    expected = F.cross_entropy(scores, torch.arange(2))
    torch.testing.assert_close(model.compute_loss(users, items, items, negatives), expected)


def test_temperature_weights_mask_and_logq() -> None:
    """None of them existed."""
    query, candidate, q = vectors(3), vectors(3, seed=1), torch.tensor([0.5, 0.2, 0.3])
    weight, keep = torch.tensor([1.0, 0.0, 3.0]), torch.ones(3, 3, dtype=torch.bool)
    keep[0, 2] = False
    spec = RetrievalSpec(scoring="dot", temperature=0.5, candidate_bias=False, logq=True, reduction="sum")
    got = tasks.Retrieval(spec=spec)(
        query, candidate, sample_weight=weight, candidate_sampling_probability=q, score_mask=keep
    )
    scores = (query @ candidate.T / 0.5 - q.log()).masked_fill(~keep, -math.inf)
    expected = (F.cross_entropy(scores, torch.arange(3), reduction="none") * weight).sum()
    torch.testing.assert_close(got, expected)


def test_the_task_is_a_module() -> None:
    spec = RetrievalSpec(learn_temperature=True, candidate_bias=False, logq=False)
    model = two_towers(tasks.Retrieval(spec=spec))
    assert "task.softmax.log_temperature" in model.state_dict()
    model.compute_loss(torch.tensor([0, 1]), torch.tensor([2, 3])).backward()
    assert model.task.softmax.log_temperature.grad is not None
    assert model.double().task.softmax.log_temperature.dtype == torch.float64


# The metric


def test_the_metric_goes_by_id() -> None:
    """A perfect model scored 0.0 on ids 100 … 163."""
    perfect = F.normalize(vectors(64, 16))
    for first in (0, 100):
        ids = torch.arange(first, first + 64)
        assert metrics.FactorizedTopK(k=1)(perfect, perfect, ids, ids) == 1.0


def test_the_metrics_corpus_counts() -> None:
    """`candidates` was stored and ignored."""
    query, corpus = torch.tensor([[1.0]]), torch.tensor([[3.0], [2.0], [1.0]])
    ids = torch.tensor([10, 11, 12])
    assert metrics.FactorizedTopK(k=1)(query, corpus, torch.tensor([11]), ids) == 0.0
    assert metrics.FactorizedTopK(k=1, candidates=[11, 12])(query, corpus, torch.tensor([11]), ids) == 1.0
    assert metrics.FactorizedTopK(k=3, candidates=[10, 12])(query, corpus, torch.tensor([11]), ids) == 0.0


def test_the_metrics_k_may_exceed_the_corpus() -> None:
    assert metrics.FactorizedTopK(k=100)(vectors(2), vectors(5, seed=1), torch.tensor([4, 0])) == 1.0


def test_a_collapsed_model_scores_nothing() -> None:
    assert metrics.FactorizedTopK(k=4)(torch.ones(3, 2), torch.ones(5, 2), torch.tensor([0, 1, 2])) == 0.0


def test_ragged_batches_average_by_row() -> None:
    """One of one and none of three is a quarter, not a half."""
    metric = metrics.FactorizedTopK(k=1)
    corpus = torch.eye(2)
    metric.update(corpus[:1], corpus, torch.tensor([0]))
    metric.update(corpus[[0, 0, 0]], corpus, torch.tensor([1, 1, 1]))
    assert metric.compute() == 0.25
    metric.reset()
    with pytest.raises(NotFitted, match="no row"):
        metric.compute()


def test_one_metric_needs_no_list_and_is_evaluated() -> None:
    """A bare metric was a TypeError, and no code ever evaluated one."""
    model = two_towers(tasks.Retrieval(metrics.FactorizedTopK(k=2)))
    users, items = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([9, 3, 3, 0, 7])
    loader = torch.utils.data.DataLoader(data.RecommendationDataset(users, items), batch_size=3)
    best = (model.user_model(users) @ model.item_model.weight.T).topk(2).indices
    expected = (best == items[:, None]).any(1).float().mean().item()
    assert model.evaluate(loader, torch.arange(10)) == pytest.approx({"factorized_top_2": expected})
    with pytest.raises(SpecError, match="k ≥ 1"):
        metrics.FactorizedTopK(k=0)


# Recommending


def test_recommends_ids_without_gradient_or_dropout() -> None:
    torch.manual_seed(0)
    towers = (nn.Sequential(nn.Embedding(n, 4), nn.Dropout(0.9)) for n in (6, 200))
    model = models.RetrievalModel(*towers, tasks.Retrieval()).train()
    users, candidates = torch.tensor([0, 3]), torch.arange(100, 164)
    items, scores = model.recommend(users, candidates, k=3)
    assert not scores.requires_grad
    assert model.training
    assert model.user_model[1].training
    expected = (model.user_model[0](users) @ model.item_model[0](candidates).T).topk(3)
    torch.testing.assert_close(scores, expected.values.detach())
    assert items.tolist() == (expected.indices + 100).tolist()


def test_k_is_cut_to_the_items_and_exclusions_are_filled_up() -> None:
    """The default k = 10 raised on fewer than ten items."""
    items, scores = two_towers().recommend(torch.tensor([1]), torch.tensor([7, 2]))
    assert sorted(items[0].tolist()) == [2, 7]
    items, scores = two_towers().recommend(torch.tensor([1]), torch.tensor([7, 2]), exclude=[[7]])
    assert items[0].tolist() == [2, models.MISSING]
    assert scores[0, 1] == -math.inf


def test_each_user_may_have_candidates_of_their_own() -> None:
    """Row positions came back for ids."""
    model = two_towers()
    own = torch.tensor([[9, 4, 6], [1, 0, 5]])
    items, _ = model.recommend(torch.tensor([2, 3]), own, k=3)
    assert [sorted(row) for row in items.tolist()] == [[4, 6, 9], [0, 1, 5]]
    items, _ = model.recommend(torch.tensor([2, 3]), own, k=3, exclude=[[4], [0, 5]])
    assert [sorted(row) for row in items.tolist()] == [[-1, 6, 9], [-1, -1, 1]]
    with pytest.raises(DataError, match="2 users, but there are 3"):
        model.recommend(torch.tensor([0, 1, 2]), own)


def test_exclusions_never_come_back() -> None:
    model = two_towers()
    items, scores = model.recommend(torch.tensor([0, 1]), torch.arange(10), k=10, exclude=[[3, 5], list(range(10))])
    assert set(items[0, :8].tolist()) == set(range(10)) - {3, 5}
    assert items[0, 8:].tolist() == [-1, -1]
    assert items[1].tolist() == [-1] * 10
    assert (scores[1] == -math.inf).all()


def test_an_index_encodes_the_items_once() -> None:
    model = two_towers()
    calls: list[int] = []
    model.item_model.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    index = model.index(torch.arange(10))
    first = model.recommend(torch.tensor([0]), index, k=4)
    second = model.recommend(torch.tensor([0]), index, k=4)
    assert calls == [10]
    assert first.items.tolist() == second.items.tolist()
    with pytest.raises(DataError, match="3 stands 2 times"):
        model.index(torch.tensor([3, 1, 3]))


def test_ties_go_by_the_order_given() -> None:
    model = two_towers()
    nn.init.ones_(model.item_model.weight)
    items, _ = model.recommend(torch.tensor([0]), torch.tensor([8, 2, 5]), k=2)
    assert items.tolist() == [[8, 2]]


# Data


def test_strings_become_codes_with_a_vocabulary() -> None:
    """The docstring promised any hashable; strings raised."""
    dataset = data.RecommendationDataset(["ana", "bo", "ana"], ["x", "y", "y"], [1.0, 2.0, 3.0])
    assert (dataset.user_vocabulary, dataset.item_vocabulary) == (["ana", "bo"], ["x", "y"])
    assert [(int(row["user_id"]), int(row["item_id"])) for row in dataset] == [(0, 0), (1, 1), (0, 1)]
    assert dataset[2]["rating"] == 3.0


def test_columns_of_different_length() -> None:
    with pytest.raises(DataError, match="item_ids must hold one value per row, 2"):
        data.RecommendationDataset([0, 1], [0, 1, 2])
    with pytest.raises(DataError, match="≥ 0"):
        data.RecommendationDataset([0, -1], [0, 1])


def test_sampled_negatives_are_labelled_seeded_and_never_positive() -> None:
    """They had no label, dropped the ratings, could be positives, and came from the global generator."""
    users, items = np.repeat(np.arange(8), 9), np.concatenate([np.delete(np.arange(10), u) for u in range(8)])
    dataset = data.RecommendationDataset(users, items, np.ones(72))
    sampled = dataset.negative_sampling(2, seed=5)
    assert len(sampled) == 72 * 3
    rows = [sampled[i] for i in range(len(sampled))]
    assert [float(row["label"]) for row in rows] == [1.0] * 72 + [0.0] * 144
    assert all(row["user_id"] == row["item_id"] for row in rows[72:])  # the one item each user lacks
    assert all(row["rating"] == 1 for row in rows[:72])
    assert all(math.isnan(row["rating"]) for row in rows[72:])
    np.testing.assert_array_equal(dataset.negative_sampling(2, seed=5).item_ids, sampled.item_ids)
    with pytest.raises(DataError, match="user 0 has a row with every item"):
        data.RecommendationDataset([0, 0], [1, 2]).negative_sampling(1)
