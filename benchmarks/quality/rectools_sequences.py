"""RecTools' SASRec on the set `ml-1m-sequences` or `beauty-sequences`, in an environment of its own.

    python3 -m venv rectools
    rectools/bin/pip install "rectools[torch]" "numpy<2" "attrs<24" "pytorch-lightning<=2.5.2" torch==2.13.0
    rectools/bin/python benchmarks/quality/rectools_sequences.py ml-1m-sequences --data DIR [--seeds 0]
        [--dim 64] [--heads 4] [--length 50] [--epochs 60] [--minutes 40] [--users N]

RecTools 0.19 wants NumPy below 2, so that nothing of recs_core is imported: the file is read by the rules of sets.py,
with the standard library. Settings are those that RecTools publishes with its ML-1M result (2 blocks, 4 heads, softmax
over the corpus, Adam at 0.001 with betas .9 and .98, dropout .2, batches of 128 users), but for the width, the length
and the number of epochs, which are options here; there they are 256, 100, and up to 200 with the best by validation
kept. The latest epoch is what is judged here, once, by HR@10 and NDCG@10 of the last item of each user, ranked in the
whole corpus without the training items. Adds a row to results/sequences.SET.json. `--minutes`: no epoch begins later.
`--users`: of the first so many alone, to try it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import statistics
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

FILES = {"ml-1m-sequences": ("sas/sequences.txt.gz", False), "beauty-sequences": ("sequences.txt.gz", True)}
"""Where each set lies, and whether a line begins with the user's number."""

BLOCKS, RATE, DROPOUT, BATCH, K = 2, 1e-3, 0.2, 128, 10
NAME = "RecTools SASRec"
PUBLISHED = {
    "ml-1m-sequences": "its authors publish .3058 / .1779 for this task, with 256 dims, the latest 100 and the best of "
    "up to 200 epochs by validation"
}


def main() -> None:
    """Train and judge each seed, and add the row."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("set", choices=list(FILES))
    asked.add_argument("--data", type=Path, required=True, help="the folder of the set's files")
    asked.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked.add_argument("--dim", type=int, default=64)
    asked.add_argument("--heads", type=int, default=4)
    asked.add_argument("--length", type=int, default=50)
    asked.add_argument("--epochs", type=int, default=60)
    asked.add_argument("--minutes", type=float)
    asked.add_argument("--users", type=int)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    histories = read(options.data, options.set)[: options.users]
    found = [run(histories, options, seed) for seed in options.seeds]
    epochs = sorted({each["epochs"] for each in found})
    stopped = f", when {options.minutes:g} minutes were over" if epochs[0] < options.epochs else ""
    row = {
        "seeds": options.seeds,
        "by_seed": [[each["hit_rate"], each["ndcg"]] for each in found],
        "seconds": statistics.mean(each["seconds"] for each in found),
        "device": "cpu",
        "setting": f"{BLOCKS} blocks, {options.heads} heads, {options.dim} dims, the latest {options.length}, softmax "
        f"over the corpus, Adam at {RATE}, dropout {DROPOUT}, {'-'.join(map(str, epochs))} epochs of batches of "
        f"{BATCH} users{stopped}, on CPU threads: {options.threads}, by "
        f"`benchmarks/quality/rectools_sequences.py`; {PUBLISHED.get(options.set, 'no published result')}",
    }
    print(json.dumps(row, indent=1))
    if options.users is None:
        path = options.out / f"sequences.{options.set}.json"
        results = json.loads(path.read_text())
        results["rows"][NAME] = row
        path.write_text(json.dumps(results, indent=1) + "\n")


def read(folder: Path, name: str) -> list[list[int]]:
    """The items of each user, oldest first."""
    file, numbered = FILES[name]
    with gzip.open(folder / file, "rt") as lines:
        return [[int(item) for item in line.split()[numbered:]] for line in lines]


def run(histories: list[list[int]], options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: how well it finds the last item of each history, in how long, after how many epochs."""
    seed_everything(seed)
    rows = [(user, item, place) for user, items in enumerate(histories) for place, item in enumerate(items[:-1])]
    table = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Datetime])
    table[Columns.Datetime] = pd.to_datetime(table[Columns.Datetime], unit="s")
    table[Columns.Weight] = 1.0
    dataset = Dataset.construct(table)
    trainer = Trainer(
        max_epochs=options.epochs,
        max_time=None if options.minutes is None else timedelta(minutes=options.minutes),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        devices=1,
    )
    model = SASRecModel(
        n_blocks=BLOCKS,
        n_heads=options.heads,
        n_factors=options.dim,
        dropout_rate=DROPOUT,
        session_max_len=options.length,
        loss="softmax",
        lr=RATE,
        batch_size=BATCH,
        get_trainer_func=lambda: trainer,
        recommend_torch_device="cpu",
    )
    began = time.perf_counter()
    model.fit(dataset)
    seconds = time.perf_counter() - began
    users = list(range(len(histories)))
    lists = model.recommend(users=users, dataset=dataset, k=K, filter_viewed=True)
    ranks = {
        (user, item): rank
        for user, item, rank in zip(lists[Columns.User], lists[Columns.Item], lists[Columns.Rank], strict=True)
    }
    places = [ranks.get((user, items[-1])) for user, items in enumerate(histories)]
    return {
        "hit_rate": statistics.mean(float(place is not None) for place in places),
        "ndcg": statistics.mean(0.0 if place is None else 1 / math.log2(place + 1) for place in places),
        "seconds": seconds,
        "epochs": model.fit_trainer.current_epoch,
    }


if __name__ == "__main__":
    main()
