"""GRU4Rec as a module of one's own: the query tower reads a customer's latest 20 items in their order.

python examples/gru4rec_torch.py [online-retail | synthetic]
"""

import sys

import torch
from torch import nn

import recs_core as recs
from recs_core import datasets


class GRU4Rec(nn.Module):
    """The state of a GRU after the items of each row; the state before any item where a row has none."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.items, self.gru = nn.Embedding(rows, dim), nn.GRU(dim, dim, batch_first=True)

    def forward(self, history: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        codes, offsets = history  # row i holds codes[offsets[i]:offsets[i + 1]], oldest first
        lengths = offsets.diff()
        row = torch.arange(len(lengths)).repeat_interleave(lengths)
        step = torch.arange(len(codes)) - offsets[row] + 1  # step 0 is a blank, so that no row is empty
        padded = self.items.weight.new_zeros(len(lengths), 1 + int(lengths.max()), self.items.embedding_dim)
        padded = padded.index_put((row, step), self.items(codes))
        return self.gru(padded)[0][torch.arange(len(lengths)), lengths]


def main() -> None:
    """Train on one part of a data set, evaluate on what comes later, recommend."""
    torch.manual_seed(0)
    data = datasets.load(sys.argv[1] if len(sys.argv) > 1 else "online-retail")
    item = data.candidate_name
    train, test = data.split(by="time", test=0.1, known_only=True)

    module = GRU4Rec(rows=1 + len(train.candidate_ids), dim=32)  # row 0 is for items that training never saw
    query = recs.Adopted(module, [recs.History(item, max_length=20)])
    candidate = recs.TowerSpec([recs.Categorical(item, dim=32)])
    model = recs.TwoTower(query, candidate, optimizer=recs.Adam(1e-2), backend="torch")
    model.fit(train, epochs=2, batch_size=1024)

    metrics = model.evaluate(test)
    print(f"recall@20 {metrics['recall@20']:.3f}   ndcg@20 {metrics['ndcg@20']:.3f}")
    print(*model.recommend(train.query_ids.ids[:1].to_pylist(), k=5).ids[0])


if __name__ == "__main__":
    main()
