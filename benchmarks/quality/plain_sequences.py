"""SASRec and GRU4Rec as a plain PyTorch loop, by the recipe of the published table.

Klenitskiy & Vasilev 2023, *Turning Dross Into Gold Loss*: 64 dims, softmax over the whole corpus, Adam at 0.001,
dropout 0.1, batches of 128 histories, of each the latest 200 (or 50), padded to the longest of the batch; every place
predicts the next item, and items share one table. PyTorch's own layers, normalised first; a constant rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from problem import Problem, Scores
from torch import Tensor, nn
from torch.nn import functional as F

DIM, DROPOUT, RATE, BATCH = 64, 0.1, 1e-3, 128
EPOCHS = 60
STD = 0.02
"""Of what tables start from; PyTorch's own 1.0 for positions would drown the items."""
LONG, SHORT = 200, 50
"""Items of a history that are read: the latest 200 where the median history is longer than 20, else 50."""


def sasrec(problem: Problem, *, seed: int, device: str | None) -> Scores:
    """Two layers of self-attention with one head and learned positions."""
    return _fitted(_SelfAttention, problem, seed, device)


def gru4rec(problem: Problem, *, seed: int, device: str | None) -> Scores:
    """One layer of `torch.nn.GRU`."""
    return _fitted(_Recurrent, problem, seed, device)


class _SelfAttention(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(length, DIM)
        nn.init.normal_(self.positions.weight, std=STD)
        layer = nn.TransformerEncoderLayer(DIM, 1, DIM, DROPOUT, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(DIM), enable_nested_tensor=False)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        later = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        return self.layers(self.dropout(x + self.positions(places)), mask=later, is_causal=True)


class _Recurrent(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.layers, self.dropout = nn.GRU(DIM, DIM, batch_first=True), nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.layers(self.dropout(x))[0])


def _fitted(encoder: Any, problem: Problem, seed: int, device: str | None) -> Scores:
    torch.manual_seed(seed)
    histories = _histories(problem)
    median = float(np.median([len(each) for each in histories if len(each)]))
    length, corpus = (LONG if median > 20 else SHORT), problem.matrix.shape[1]
    items = nn.Embedding(corpus, DIM, device=device)
    nn.init.normal_(items.weight, std=STD)
    model = encoder(length).to(device)
    optimizer = torch.optim.Adam([*items.parameters(), *model.parameters()], RATE)
    usable = [each[-length - 1 :] for each in histories if len(each) > 1]
    random = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = random.permutation(len(usable))
        for start in range(0, len(order), BATCH):
            codes, targets = _padded([usable[i] for i in order[start : start + BATCH]], device)
            kept = targets >= 0
            loss = F.cross_entropy(model(items(codes))[kept] @ items.weight.T, targets[kept])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    model.eval()

    def scores(queries: NDArray[np.integer]) -> NDArray[np.floating]:
        out = np.zeros((len(queries), corpus), np.float32)
        known = [(row, histories[query][-length:]) for row, query in enumerate(queries) if query >= 0]
        known = [(row, each) for row, each in known if len(each)]
        with torch.no_grad():
            codes, last = _ended([each for _, each in known], device)
            read = model(items(codes))[torch.arange(len(known), device=device), last]
            out[[row for row, _ in known]] = (read @ items.weight.T).cpu().numpy()
        return out

    return scores


def _histories(problem: Problem) -> list[NDArray[np.int64]]:
    """The candidates of each query, oldest first."""
    train = problem.train
    assert train.timestamps is not None
    order = np.lexsort((train.timestamps, train.query_codes))
    ends = np.cumsum(np.bincount(train.query_codes, minlength=len(train.query_ids)))
    return np.split(train.candidate_codes[order].astype(np.int64), ends[:-1])


def _padded(histories: list[NDArray[np.int64]], device: str | None) -> tuple[Tensor, Tensor]:
    """What is read, filled up with item 0, and what it predicts, filled up with −1."""
    width = max(map(len, histories)) - 1
    codes, targets = np.zeros((len(histories), width), np.int64), np.full((len(histories), width), -1, np.int64)
    for row, each in enumerate(histories):
        codes[row, : len(each) - 1], targets[row, : len(each) - 1] = each[:-1], each[1:]
    return torch.from_numpy(codes).to(device), torch.from_numpy(targets).to(device)


def _ended(histories: list[NDArray[np.int64]], device: str | None) -> tuple[Tensor, Tensor]:
    """What is read, filled up with item 0, and the place of each one's latest."""
    codes = np.zeros((len(histories), max(map(len, histories))), np.int64)
    for row, each in enumerate(histories):
        codes[row, : len(each)] = each
    last = torch.tensor([len(each) - 1 for each in histories], device=device)
    return torch.from_numpy(codes).to(device), last
