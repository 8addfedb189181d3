"""A loss of one's own: pointwise binary cross-entropy, n negatives per positive, over the batches of `fit`.

python examples/loop_bce_torch.py [online-retail | synthetic]
"""

import sys

import torch
from recs_core_torch import loader
from torch.nn.functional import binary_cross_entropy_with_logits

import recs_core as recs
from recs_core import datasets


def bce(query, candidate, task, negatives: int) -> torch.Tensor:
    """Mean over positives of −log σ(s⁺) − Σ log σ(−s⁻), its negatives drawn from those of the batch."""
    row, column = (torch.from_numpy(task[name]).long() for name in ("target_query", "target_candidate"))
    drawn = torch.randint(task["negatives_from"], len(candidate), (len(row), negatives))
    positive = (query[row] * candidate[column]).sum(-1)
    negative = torch.einsum("td,tnd->tn", query[row], candidate[drawn])
    ids = torch.from_numpy(task["candidate_ids"])
    other = (ids[drawn] != ids[column][:, None]).float()  # a column of the same candidate is no negative
    lost = binary_cross_entropy_with_logits(negative, torch.zeros_like(negative), weight=other, reduction="sum")
    found = binary_cross_entropy_with_logits(positive, torch.ones_like(positive), reduction="sum")
    return (found + lost) / len(row)


def main() -> None:
    """Train by the loss above on one part of a data set, evaluate on what comes later."""
    torch.manual_seed(0)
    train, test = datasets.load(sys.argv[1] if len(sys.argv) > 1 else "online-retail").split(by="time", test=0.1)
    user, item = train.query_name, train.candidate_name
    query = recs.TowerSpec([recs.Categorical(user, dim=32), recs.History(item, dim=32)], layers=[32])
    candidate = recs.TowerSpec([recs.Categorical(item, dim=32)], layers=[32])
    # What `recommend` and `evaluate` rank by, and which columns a batch has: those of its rows, then 2,000 others.
    spec = recs.RetrievalSpec(scoring="dot", candidate_bias=False, negatives="uniform", num_negatives=2000)
    model = recs.TwoTower(query, candidate, spec, backend="torch").build(train)

    native = model.model
    optimizer = torch.optim.AdamW(native.parameters(), lr=5e-3)
    batches = loader(model, train, batch_size=4096)
    for epoch in range(3):
        total = 0.0
        for batch in batches:
            loss = bce(native.query(batch), native.candidate(batch), batch.task, negatives=20)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / len(batches):.4f}")
    print(f"recall@20 {model.evaluate(test, exclude=train)['recall@20']:.3f}   {user} → {item}")


if __name__ == "__main__":
    main()
