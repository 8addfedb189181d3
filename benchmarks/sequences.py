"""A training step of self-attention over histories, beside a plain PyTorch loop of the same layers.

    python benchmarks/sequences.py [--backends torch tensorflow "keras[jax]"] [--rounds 7] [--threads 2] [--mask]
                                   [--time history]

Two layers of `SelfAttention`, 64 dims, one head; 128 histories of up to 200 of 3,416 items per batch, every place a
query, softmax over the corpus, Adam on every weight. Lengths are log-normal, in windows of 200 some 120 on average. The
plain loop pads each batch to 200 and takes the cross-entropy of the places that have a target; it is first held to the
torch backend's loss on the same weights. `--mask`: our backends leave a history's own items out of the negatives, which
the loop does not. `--time`: ours have a time bias too, which is zero until it is trained.

All take turns, a step each, in one process; what counts is the ratio of medians. Batches are made before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import recs_core as recs
from recs_core.contract.batch import Batch, Sequences
from recs_core.contract.encoders import rotation
from recs_core.contract.plans import UpdatePlan

ITEMS, LENGTH, HISTORIES, DIM, DROPOUT, RATE = 3416, 200, 128, 64, 0.2, 1e-3


def interactions(users: int, random: np.random.Generator) -> recs.Interactions:
    """Histories of uniform items, of log-normal lengths."""
    lengths = np.clip(np.exp(random.normal(4.6, 0.9, users)), 5, 600).astype(int)
    user = np.repeat(np.arange(users), lengths)
    table = {"user": user, "item": random.integers(0, ITEMS, len(user)), "time": np.arange(len(user))}
    table["item"][:ITEMS] = np.arange(ITEMS)  # so that the corpus has all of them
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="time")


def declared(backend: str, mask: bool, timed: Any = None) -> recs.TwoTower:
    """The model of all."""
    encoder = recs.SelfAttention(layers=2, heads=1, dropout=DROPOUT, time=timed)
    return recs.TwoTower(
        query=recs.TowerSpec([recs.History("item", dim=DIM, max_length=LENGTH, encoder=encoder)]),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=DIM)]),
        retrieval=recs.RetrievalSpec(
            scoring="dot",
            temperature=1.0,
            negatives="corpus",
            candidate_bias=False,
            logq=False,
            remove_accidental_hits=False,
            mask_positives=mask,
        ),
        optimizer=recs.Adam(RATE, dense=True),
        training=recs.TrainingSpec(epochs=1, batch_size=HISTORIES, batch_by="sequence"),
        backend=backend,
    )


def stepper(model: recs.TwoTower, batches: list[Batch]) -> Callable[[], float]:
    """One step of ours, on the next batch."""
    trainer = model.backend.trainer(model.model, UpdatePlan(model.optimizer))
    turn = iter(range(10**9))
    return lambda: float(trainer.step(batches[next(turn) % len(batches)], RATE))


def plain(start: Mapping[str, Any], batches: list[Batch]) -> tuple[Callable[[], float], float]:
    """One step of a PyTorch loop from these weights, on the next batch; the loss of the first one, without dropout."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normal_1, self.normal_2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
            self.query, self.key, self.value, self.output = (nn.Linear(DIM, DIM) for _ in range(4))
            self.gate_1, self.gate_2 = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
            self.ffn_1, self.ffn_3, self.ffn_2 = (
                nn.Linear(DIM, 4 * DIM),
                nn.Linear(DIM, 4 * DIM),
                nn.Linear(4 * DIM, DIM),
            )
            self.dropout = nn.Dropout(DROPOUT)

        def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            def turned(x: Tensor) -> Tensor:
                a, b = x.chunk(2, -1)
                return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

            a = self.normal_1(x)
            q, k, v = turned(self.query(a)), turned(self.key(a)), self.value(a)
            y = self.output(F.scaled_dot_product_attention(q, k, v, is_causal=True))
            x = x + torch.sigmoid(self.gate_1(x)) * self.dropout(y)
            f = self.normal_2(x)
            z = self.ffn_2(self.dropout(F.silu(self.ffn_1(f)) * self.ffn_3(f)))
            return x + torch.sigmoid(self.gate_2(x)) * self.dropout(z)

    class SASRec(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.items = nn.Embedding(len(start["table/item"]), DIM, padding_idx=0)
            self.layers = nn.ModuleList(Layer() for _ in range(2))
            self.normal, self.dropout = nn.LayerNorm(DIM), nn.Dropout(DROPOUT)
            for name, table in zip(("cos", "sin"), rotation(LENGTH, DIM), strict=True):
                self.register_buffer(name, torch.from_numpy(table).float())

        def forward(self, codes: Tensor, targets: Tensor) -> Tensor:
            x = self.dropout(self.items(codes))
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            kept = targets >= 0
            return F.cross_entropy(self.normal(x)[kept] @ self.items.weight[1:].T, targets[kept])

    model = SASRec()
    with torch.no_grad():
        model.items.weight.copy_(torch.from_numpy(start["table/item"]))
        for name, parameter in model.named_parameters():
            if name != "items.weight":
                *path, part = name.replace("layers.", "layer_").split(".")
                array = next(v for k, v in start.items() if k.endswith("/".join(["", *path, _canonical(path, part)])))
                parameter.copy_(torch.from_numpy(array.T if array.ndim == 2 else array))
    given = [tuple(torch.from_numpy(x) for x in padded(batch)) for batch in batches]
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    turn = iter(range(10**9))

    def step() -> float:
        optimizer.zero_grad()
        loss = model(*given[next(turn) % len(given)])
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    with torch.no_grad():
        loss = float(model.eval()(*given[0]))
    model.train()
    return step, loss


def _canonical(path: list[str], part: str) -> str:
    return part if part == "bias" else "scale" if path[-1].startswith("normal") else "kernel"


def padded(batch: Batch) -> tuple[Any, Any]:
    """Codes (histories, 200), filled up with 0, and targets as numbers of the corpus, filled up with −1."""
    read = batch.query.codes["item"]
    assert isinstance(read, Sequences)
    codes, targets = np.zeros((HISTORIES, LENGTH), np.int64), np.full((HISTORIES, LENGTH), -1, np.int64)
    place = np.arange(len(read.values)) - read.codes.offsets[:-1][read.codes.segments]
    codes[read.codes.segments, place] = batch.rows["table/item"][read.values]
    targets[read.codes.segments, place] = batch.task["target_candidate"]
    return codes, targets


def loss_of(model: recs.TwoTower, start: Mapping[str, Any], batch: Batch) -> float:
    """Of a batch without its dropout, and with a history's own items among the negatives."""
    model.model.load_weights(start)
    task: Any = {name: value for name, value in batch.task.items() if not name.startswith("positives")}
    plain = replace(batch, query=batch.query.take(np.arange(batch.query.size)), task=task)
    return float(model.backend.trainer(model.model, UpdatePlan(recs.SGD(RATE))).step(plain, 0.0))


def main() -> None:
    """Take turns, and print a table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--backends", nargs="*", default=["torch", "tensorflow", "keras[jax]"])
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--threads", type=int, default=os.cpu_count())
    asked.add_argument("--mask", action="store_true")
    asked.add_argument("--time", choices=("history", "request"))
    given = asked.parse_args()
    data = interactions(600, np.random.default_rng(0))
    models = {name: declared(name, given.mask, given.time).build(data) for name in given.backends}
    epochs = next(iter(models.values())).epochs(data)
    batches = [epochs.batch(0, step) for step in range(min(4, len(epochs) - 1))]
    places = statistics.mean(batch.query.size for batch in batches)
    print(f"{places / HISTORIES:.0f} places per history on average, {given.threads} threads\n")

    import torch

    torch.set_num_threads(given.threads)
    start = next(iter(models.values())).model.weights()
    step, loss = plain(start, batches)
    for name in models:
        np.testing.assert_allclose(
            loss_of(declared(name, False, given.time).build(data), start, batches[0]), loss, rtol=1e-4
        )
    steps = {"plain PyTorch": step, **{name: stepper(model, batches) for name, model in models.items()}}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for i in range(-2 * len(batches), given.rounds * len(batches)):
        for name, run in steps.items():
            began, worked = time.perf_counter(), time.process_time()
            run()
            if i >= 0:
                taken[name].append((1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - worked)))
    medians = {name: [statistics.median(times) for times in zip(*pairs, strict=True)] for name, pairs in taken.items()}
    heads = ("step of", "median, ms", "beside the plain loop", "of CPU time, ms", "beside")
    print(f"| {' | '.join(heads)} |\n| --- | --: | --: | --: | --: |")
    base, worked_base = medians["plain PyTorch"]
    for name, (took, worked) in medians.items():
        print(f"| {name} | {took:.0f} | {took / base:.2f}× | {worked:.0f} | {worked / worked_base:.2f}× |")


if __name__ == "__main__":
    main()
