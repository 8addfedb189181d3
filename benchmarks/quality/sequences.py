"""What order is worth, and each part of the models that read it.

    python benchmarks/quality/sequences.py ml-1m-sequences --data DIR [--validation] [--seeds 0 1 2] [--only NAME …]
    python benchmarks/quality/sequences.py beauty-sequences --data DIR
    python benchmarks/quality/sequences.py online-retail-sequences

Every model has the settings of the recipe `sequence` for the set, but for what its name says; beside them the recipe
`history`, plain PyTorch loops of the published SASRec and GRU4Rec (plain_sequences.py), item-kNN and EASE; RecTools'
SASRec has a command of its own (rectools_sequences.py). Rankings are of the whole corpus without the training items.
`--jobs`: how many models train side by side; `--device`: where, such as cuda. Adds its rows to
results/sequences.SET.json, or sequences.SET.validation.json.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from command import loaded, parser
from peers import ease, item_knn
from plain_sequences import gru4rec, sasrec
from problem import Problem, Scores
from sets import QualitySet, load

import recs_core as recs
from recs_core.evaluation import query_metrics
from recs_core.recipes import Recipe, choose, history

SETS = ("ml-1m-sequences", "beauty-sequences", "online-retail-sequences")


def encoder(specs: Recipe, **changes: Any) -> Recipe:
    """With another encoder: these fields of it changed."""
    assert specs.history is not None
    return with_history(specs, encoder=replace(specs.history.encoder, **changes))


def with_history(specs: Recipe, **changes: Any) -> Recipe:
    """With these fields of the history changed."""
    return replace(specs, query=replace(specs.query, features=[replace(specs.history, **changes)]))


def with_training(specs: Recipe, **changes: Any) -> Recipe:
    """With these fields of the training changed."""
    return replace(specs, training=replace(specs.training, **changes))


def against(specs: Recipe, number: int | None) -> Recipe:
    """With so many shared uniform negatives, or with the whole corpus."""
    changes: dict[str, Any] = {"negatives": "uniform", "num_negatives": number} if number else {"negatives": "corpus"}
    return replace(specs, retrieval=replace(specs.retrieval, **{"num_negatives": None, **changes}))


SASREC = {"ffn": 1, "activation": "relu", "gate": False, "position": "learned"}

MODELS: Mapping[str, Callable[[Recipe], Recipe]] = {
    "recipe `sequence`": lambda specs: specs,
    "SASRec's layers": partial(encoder, **SASREC),
    "GRU": partial(with_history, encoder=recs.GRU(dropout=0.2)),
    "1 layer": partial(encoder, layers=1),
    "1 head": partial(encoder, heads=1),
    "no gate": partial(encoder, gate=False),
    "relu × 4": partial(encoder, activation="relu"),
    "learned positions": partial(encoder, position="learned"),
    "no positions": partial(encoder, position=None),
    "the latest 50": partial(with_history, max_length=50),
    "the latest 50, 28 epochs": lambda specs: with_training(with_history(specs, max_length=50), epochs=28),
    "the latest 100": partial(with_history, max_length=100),
    "256 shared negatives": partial(against, number=256),
    "1,024 shared negatives": partial(against, number=1024),
    "4,096 shared negatives": partial(against, number=4096),
    "the whole corpus": partial(against, number=None),
    "the next 3 as targets": partial(with_training, targets=3),
    "the next 10 as targets": partial(with_training, targets=10),
    "rows weigh by age": partial(with_training, recency_days=history.HALF_LIFE_DAYS),
}


def blind(fit: Callable[..., Scores], **setting: Any) -> Callable[..., Scores]:
    """A peer that reads no order, and draws nothing."""
    return lambda problem, *, seed, device: fit(problem, **setting)


PEERS = {
    "plain PyTorch SASRec": sasrec,
    "plain PyTorch GRU4Rec": gru4rec,
    "item-kNN": blind(item_knn, neighbours=50, shrink=20),
    "EASE": blind(ease, l2=300),
}
BLIND = "recipe `history`"


@dataclass(frozen=True)
class Job:
    """One model to train, with one seed."""

    set: str
    folder: Path | None
    validation: bool
    model: str
    seed: int
    backend: str
    device: str | None


class Result(NamedTuple):
    """The set's metrics, and the seconds of training."""

    job: Job
    values: Sequence[float]
    seconds: float


def main() -> None:
    """Train what is asked for, and add it to the set's results."""
    asked = parser(__doc__, SETS)
    asked.add_argument("--validation", action="store_true", help="judge by the validation rows")
    asked.add_argument("--only", nargs="+", choices=[*MODELS, *PEERS, BLIND], default=[*MODELS, *PEERS, BLIND])
    asked.add_argument("--jobs", type=int, default=1)
    asked.add_argument("--device")
    options = asked.parse_args()
    data = loaded(options)
    jobs = [
        Job(options.set, options.data, options.validation, model, seed, options.backend, options.device)
        for seed in options.seeds
        for model in options.only
    ]
    found: dict[str, list[Result]] = {}
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run, job) for job in jobs]):
            job, values, _ = result = done.result()
            shown = "  ".join(f"{name} {value:.4f}" for name, value in zip(data.metrics, values, strict=True))
            print(f"{job.model:28} seed {job.seed}  {shown}  {result.seconds:.0f} s", flush=True)
            found.setdefault(job.model, []).append(result)
            part = ".validation" if options.validation else ""
            write(options.out / f"sequences.{options.set}{part}.json", data, found)


def write(path: Path, data: QualitySet, found: Mapping[str, Sequence[Result]]) -> None:
    """The results so far, beside those that were there."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name, results in found.items():
        by_seed = sorted(results, key=lambda result: result.job.seed)
        rows[name] = {
            "seeds": [result.job.seed for result in by_seed],
            "by_seed": [result.values for result in by_seed],
            "seconds": statistics.mean(result.seconds for result in results),
            "device": results[0].job.device or "cpu",
        }
    said = {"orders": data.name, "metrics": list(data.metrics), "goals": list(data.goals), "rows": rows}
    path.write_text(json.dumps(said, indent=1) + "\n")


@cache
def problem_of(name: str, folder: Path | None, validation: bool) -> tuple[QualitySet, Problem]:
    """The set, and what is asked of it."""
    data = load(name, folder)
    return data, Problem.of(*((data.fitted, data.validation) if validation else (data.train, data.test)))


def run(job: Job) -> Result:
    """Train one model, and rank."""
    data, problem = problem_of(job.set, job.folder, job.validation)
    test = data.validation if job.validation else data.test
    began = time.perf_counter()
    if job.model in PEERS:
        scores = PEERS[job.model](problem, seed=job.seed, device=job.device)
        seconds = time.perf_counter() - began
        found = problem.rank(scores)
    else:
        specs = choose("history" if job.model == BLIND else "sequence", problem.train)
        specs = MODELS.get(job.model, lambda specs: specs)(specs)
        on = {} if job.device is None else {"device": job.device}
        model = recs.TwoTower(
            query=specs.query,
            candidate=specs.candidate,
            retrieval=specs.retrieval,
            optimizer=specs.optimizer,
            training=specs.training,
            backend=job.backend,
            seed=job.seed,
            **on,
        )
        model.fit(problem.train, progress=False)
        seconds = time.perf_counter() - began
        found = model.rank(test, exclude=problem.train)
    mean = query_metrics(found, k=data.k).mean()
    return Result(job, [mean[name] for name in data.metrics], seconds)


if __name__ == "__main__":
    main()
