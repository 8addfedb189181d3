"""The comparison: which processes run, what they are asked, and the report that comes of their answers."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from recs_core.compare import agreement, words
from recs_core.compare.agreement import Pair, Tier
from recs_core.compare.job import Job, Purpose
from recs_core.compare.processes import Answer, Workers
from recs_core.compare.progress import Board
from recs_core.config import parse
from recs_core.contract.errors import BackendBroken, BackendConflict, BackendNotFound, ConfigError, MissingExtra
from recs_core.contract.randomness import generator
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.interactions import Interactions
from recs_core.evaluation import intervals
from recs_core.experiment import Experiment, Parts, build, cut, load_data
from recs_core.plugin.manager import backend_info, list_backends
from recs_core.reference.backend import ORACLE
from recs_core.two_tower import TwoTower

FORMAT, VERSION = "recs-core-comparison", 1

COMPARED_QUERIES = 2000
"""Queries whose lists are compared: all of the test, or so many drawn from it."""

SHOWN_QUERIES = 3
ACTIVE_SHARE = 0.2
"""Queries to show are drawn from this share, the most active."""

QUICK_EPOCHS, QUICK_STEPS = 4, 16
LISTS = 10
REPEATED_STEPS = 100
NAME_COLUMNS = ("description", "title", "name")


@dataclass(frozen=True)
class Options:
    """What a comparison may be told. `k`: the length of the lists shown. `show`: query ids, as typed. `epochs`: instead
    of the run's. `quick`: a few epochs only. `threads`: None for all CPUs the process may use."""

    k: int = 5
    show: Sequence[str] = ()
    epochs: int | None = None
    quick: bool = False
    threads: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything settled before the first process starts."""

    experiment: Experiment
    model: TwoTower
    data: Interactions
    parts: Parts
    options: Options
    steps_per_epoch: int
    queries: list[Any]
    shown: int

    @property
    def epochs(self) -> int:
        """Epochs of the run."""
        return self.model.training.epochs

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch

    @property
    def repeated_steps(self) -> int:
        """Steps of the second run, which is compared with the first bit by bit."""
        return min(self.steps, QUICK_STEPS if self.options.quick else REPEATED_STEPS)

    @property
    def oracle_steps(self) -> int:
        """Steps that the reference follows: as many as can be held equal one by one, for it is slow."""
        most = agreement.window(self.steps, self.steps_per_epoch)
        return min(most, QUICK_STEPS) if self.options.quick else most

    @property
    def tier(self) -> Tier:
        """What the backends are held to."""
        return agreement.tier(
            self.experiment, self.experiment.resolved(self.model).model, self.steps, self.steps_per_epoch
        )

    @property
    def threads(self) -> int:
        """CPUs for each process."""
        return self.options.threads or usable_cpus()


def choose_backends(text: str | None) -> tuple[list[str], dict[str, str]]:
    """Names to compare, and installed ones that cannot be, with the reason. `text`: as in "torch,keras[jax]"; None is
    every installed backend. Raises `BackendNotFound` for a name that nobody provides; a broken one is a row that fails.
    """
    skipped: dict[str, str] = {}
    if text is None:
        wanted = [row.name for row in list_backends() if row.problem is None]
        skipped = {row.name: row.problem for row in list_backends() if row.problem is not None}
    else:
        wanted = [name.strip() for name in text.split(",") if name.strip()]
    selections = [parse(name, "--backends") for name in wanted]
    for selection in selections:
        with contextlib.suppress(BackendBroken, BackendConflict, MissingExtra):
            backend_info(selection.name, selection.engine, asked_by="--backends")
    if not selections:
        raise BackendNotFound("there is no backend to compare; `recs backends` lists what is installed")
    return list(dict.fromkeys(map(str, selections))), skipped


def plan(experiment: Experiment, options: Options) -> Plan:
    """Read the data, build the (unfitted) model and choose the queries. Raises for every mistake of the user's."""
    data = load_data(experiment.data)
    parts = cut(data, experiment.data, experiment.seed)
    model = build(experiment, parts.train)
    epochs = options.epochs or model.training.epochs
    model.training = replace(model.training, epochs=min(epochs, QUICK_EPOCHS) if options.quick else epochs)
    experiment = replace(experiment.resolved(model), backend=None)
    shown, queries = choose_queries(parts, options.show, experiment.seed)
    steps = _steps_per_epoch(model, parts.train)
    return Plan(experiment, model, data, parts, options, steps, queries, len(shown))


def choose_queries(parts: Parts, show: Sequence[str], seed: int) -> tuple[list[Any], list[Any]]:
    """The query ids to show, and all whose lists are compared, those shown first."""
    train = parts.train
    counts = train.query_counts()
    tests = parts.test if parts.test is not None else train
    rows = np.bincount(train.query_ids.encode(tests.query_ids.ids)[tests.query_codes], minlength=len(counts))
    known = np.flatnonzero((rows > 0) & (counts > 0))
    random = generator(seed, "compare/queries")
    if show:
        shown = _codes_as_typed(show, train.query_ids)
    else:
        busiest = known[np.argsort(-counts[known], kind="stable")]
        busiest = busiest[: max(SHOWN_QUERIES, round(ACTIVE_SHARE * len(known)))]
        shown = sorted(random.permutation(busiest)[:SHOWN_QUERIES].tolist())
    others = [code for code in random.permutation(known).tolist() if code not in set(shown)]
    codes = [*shown, *others[: max(0, COMPARED_QUERIES - len(shown))]]
    ids = train.query_ids.decode(np.array(codes, np.int32)).to_pylist()
    return ids[: len(shown)], ids


def _codes_as_typed(show: Sequence[str], ids: Vocabulary) -> list[int]:
    """Codes of ids given as text on the command line."""
    by_text = {str(value): code for code, value in enumerate(ids.ids.to_pylist())}
    unknown = [text for text in show if text not in by_text]
    if unknown:
        raise ConfigError(f"--show {unknown[0]}: no such id in the training data; the first is {next(iter(by_text))}")
    return [by_text[text] for text in dict.fromkeys(show)]


def _steps_per_epoch(model: TwoTower, train: Interactions) -> int:
    from recs_core.contract.protocols import BatchPlan
    from recs_core.data.batching import Batching
    from recs_core.data.encoded import EncodedDataset
    from recs_core.data.schema import Schema

    encoded = EncodedDataset.encode(
        model.query, model.candidate, Schema.learn(model.query, model.candidate, train), train
    )
    return Batching(encoded).steps(BatchPlan.of(model.training, model.retrieval))


def compare(
    plan: Plan,
    backends: Sequence[str],
    *,
    logs: Path,
    command: str,
    live: bool = False,
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train on every backend in a process of its own, twice, and the oracle; the report as JSON data.

    Timed runs go one at a time; the oracle and the second runs, which nothing is timed of, side by side after them.
    `logs`: a folder for what failed processes printed. `skipped`: installed backends that are left out, and why. A
    backend that fails is a row with its `problem`.
    """
    with tempfile.TemporaryDirectory(prefix="recs-compare-") as folder, Board(plan.steps, live=live) as board:

        def jobs(names: Sequence[str], purpose: Purpose, stop_after: int) -> list[Job]:
            return [_job(plan, name, purpose, stop_after, Path(folder), logs) for name in names]

        logs.mkdir(parents=True, exist_ok=True)
        first = jobs(backends, "measure", plan.repeated_steps)
        oracle = jobs([ORACLE], "oracle", plan.oracle_steps)
        again = jobs(backends, "repeat", plan.repeated_steps)
        board.expect([*first, *oracle, *again])
        with Workers(board.hear) as workers:
            measured = workers.run(first)
            worth = [job for job, answer in zip(again, measured, strict=True) if answer.problem is None]
            reference, *repeated = workers.run([*oracle, *worth], at_once=min(2, usable_cpus()))
        _drop_logs([*measured, reference, *repeated], logs)
        return _report(plan, measured, reference, repeated, command, dict(skipped or {}))


def _job(plan: Plan, name: str, purpose: Purpose, stop_after: int, folder: Path, logs: Path) -> Job:
    place = folder / purpose / name
    place.mkdir(parents=True)
    return Job(
        backend=name,
        purpose=purpose,
        experiment=plan.experiment.to_json(),
        queries=plan.queries if purpose != "repeat" else [],
        k=max(LISTS, plan.options.k),
        threads=plan.threads,
        folder=str(place),
        log=str(logs / f"{name}-{purpose}.log"),
        stop_after=stop_after,
    )


def _drop_logs(answers: Sequence[Answer], logs: Path) -> None:
    """Keep only what failed processes printed."""
    for answer in answers:
        if answer.problem is None:
            Path(answer.job.log).unlink(missing_ok=True)
    if not any(logs.iterdir()):
        logs.rmdir()


def _report(
    plan: Plan,
    measured: Sequence[Answer],
    oracle: Answer,
    repeated: Sequence[Answer],
    command: str,
    skipped: dict[str, str],
) -> dict[str, Any]:
    from recs_core.version import __version__

    done = [answer for answer in measured if answer.problem is None]
    judges = [oracle] if oracle.problem is None else []
    held_to = plan.tier
    pairs = [
        agreement.compare(a, b, held_to=held_to, shown=plan.shown, k=plan.options.k)
        for a, b in [*((a, judge) for judge in judges for a in done), *combinations(done, 2)]
    ]
    again = {answer.job.backend: answer for answer in repeated}
    rows = [_row(plan, answer, again.get(answer.job.backend), pairs) for answer in measured]
    failed = [row["name"] for row in rows if not row["ok"]]
    apart = [pair for pair in pairs if not pair.agree]
    return {
        "format": FORMAT,
        "version": VERSION,
        "recs_core": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "k": plan.options.k,
        "quick": plan.options.quick,
        "machine": machine(plan.threads),
        "run": plan.experiment.to_json(),
        "data": _data(plan),
        "model": _model(plan),
        "tier": {"name": held_to.name, "why": held_to.why, "window": held_to.window},
        "agree": bool(done) and not failed and not apart,
        "headline": words.headline([a.job.backend for a in done], failed, apart, held_to.name),
        "pairs": [pair.to_json() for pair in pairs],
        "backends": rows,
        "oracle": _oracle(plan, oracle),
        "popularity": _popularity(done),
        "recommendations": _recommendations(plan, [*done, *(a for a in judges if "lists/codes" in a.arrays)]),
        "skipped": skipped,
    }


def _data(plan: Plan) -> dict[str, Any]:
    train, test = plan.parts.train, plan.parts.test
    return {
        "source": plan.experiment.data.source,
        "rows": len(plan.data),
        "queries": int((train.query_counts() > 0).sum()),
        "candidates": int((train.candidate_counts() > 0).sum()),
        "training_rows": len(train),
        "test_rows": None if test is None else len(test),
        "evaluated_on": "the training rows, seen candidates included" if test is None else "the test rows",
        "leakage": plan.parts.leakage,
        "query": train.query_name,
        "candidate": train.candidate_name,
        "compared_queries": len(plan.queries),
    }


def _model(plan: Plan) -> dict[str, Any]:
    model = plan.model
    return {
        "towers": {"query": words.tower(model.query), "candidate": words.tower(model.candidate)},
        "loss": words.loss(model.retrieval, model.training),
        "optimizer": words.optimizer(model.optimizer),
        "recommendation": words.recommendation(model.retrieval, plan.parts.test is not None),
        "epochs": plan.epochs,
        "steps_per_epoch": plan.steps_per_epoch,
        "steps": plan.steps,
        "batch_size": model.training.batch_size,
        "batch_by": model.training.batch_by,
        "seed": plan.experiment.seed,
        "dtype": plan.experiment.dtype,
    }


def _row(plan: Plan, answer: Answer, again: Answer | None, pairs: Sequence[Pair]) -> dict[str, Any]:
    """A backend: what it is, what came out, what it cost; or why there is nothing."""
    name, result = answer.job.backend, answer.result
    if answer.problem is not None:
        return {"name": name, "ok": False, "problem": answer.problem}
    with_oracle = next((pair for pair in pairs if (pair.first, pair.second) == (name, ORACLE)), None)
    reproducible = _reproducible(answer, again)
    return {
        "name": name,
        "ok": "problem" not in reproducible,
        "problem": reproducible.get("problem"),
        "summary": result["summary"],
        "language": f"Python {result['python']}",
        "versions": result["versions"],
        "native": result["native"],
        "parameters": result["parameters"],
        "training_api": f"TwoTower.fit, steps by {result['trainer']}",
        "reproducible": reproducible,
        "losses": _losses(answer),
        "oracle": None if with_oracle is None else {"steps": with_oracle.steps, "loss": with_oracle.loss_difference},
        "metrics": {n: dict(v) for n, v in intervals(agreement.metrics_of(answer)).items()},
        "cost": _cost(plan, answer),
        "bundle": result["bundle"],
    }


def _reproducible(answer: Answer, again: Answer | None) -> dict[str, Any]:
    """Whether a second process got the same bits."""
    if again is None or again.problem is not None:
        return {"problem": f"the second run failed: {again.problem if again else 'not started'}"}
    steps = len(again.losses)
    losses = bool(np.array_equal(answer.losses[:steps], again.losses))
    key = str(steps)
    weights = answer.result["digests"][key]["weights"] == again.result["digests"][key]["weights"]
    return {
        "steps": steps,
        "losses_equal": losses,
        "weights_equal": weights,
        "bit_equal": losses and weights,
        "loss_difference": float(np.abs(answer.losses[:steps] - again.losses).max()),
    }


def _losses(answer: Answer) -> dict[str, Any]:
    return {"epochs": [epoch["loss"] for epoch in answer.result["epochs"]], "steps": answer.losses.tolist()}


def _cost(plan: Plan, answer: Answer) -> dict[str, Any]:
    """Seconds and bytes. The first epoch compiles and warms up, so it stands apart from the median of the others."""
    seconds, memory = answer.result["seconds"], answer.result["memory"]
    epochs = [epoch["seconds"] for epoch in answer.result["epochs"]]
    epoch = median(epochs[1:] or epochs)
    return {
        "startup": answer.startup,
        "import": seconds["import"],
        "data": seconds["data"],
        "first_epoch": epochs[0],
        "epoch": epoch,
        "training": sum(epochs),
        "rows_per_second": len(plan.parts.train) / epoch,
        "first_evaluation": seconds["first evaluation"],
        "evaluation": seconds["evaluation"],
        "memory_imported": memory["imported"],
        "memory_peak": memory["peak"],
    }


def _oracle(plan: Plan, answer: Answer) -> dict[str, Any]:
    if answer.problem is not None:
        return {"ok": False, "problem": answer.problem}
    found = {"ok": True, "steps": len(answer.losses), "of": plan.steps, "losses": _losses(answer), "metrics": None}
    if any(name.startswith("metrics/model/") for name in answer.arrays):
        found["metrics"] = {n: dict(v) for n, v in intervals(agreement.metrics_of(answer)).items()}
    return found


def _popularity(done: Sequence[Answer]) -> dict[str, Any] | None:
    """What a model must beat; the same for every backend."""
    if not done:
        return None
    return {n: dict(v) for n, v in intervals(agreement.metrics_of(done[0], "popularity")).items()}


def _recommendations(plan: Plan, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """For each query shown: what each backend recommends, by name."""
    from recs_core.data.schema import Schema

    schema = Schema.learn(plan.model.query, plan.model.candidate, plan.parts.train)
    names = _item_names(plan.data)
    ids = schema.candidates.ids.to_pylist()
    taken = {
        (q, c)
        for part in (plan.parts.test if plan.parts.test is not None else plan.parts.train,)
        for q, c in zip(
            part.query_ids.decode(part.query_codes).to_pylist(),
            part.candidate_ids.decode(part.candidate_codes).to_pylist(),
            strict=True,
        )
    }
    out = []
    for row, query in enumerate(plan.queries[: plan.shown]):
        lists = {}
        for answer in answers:
            codes, scores = answer.arrays["lists/codes"][row], answer.arrays["lists/scores"][row]
            lists[answer.job.backend] = [
                {
                    "id": ids[code],
                    "name": names.get(ids[code]),
                    "score": float(score),
                    "hit": (query, ids[code]) in taken,
                }
                for code, score in zip(codes[: plan.options.k], scores, strict=False)
                if code >= 0
            ]
        out.append({"query": query, "lists": lists})
    return out


def _item_names(data: Interactions) -> dict[Any, str]:
    """Candidate id → its description, title or name, where the side table has one."""
    table = data.candidates
    column = next((name for name in NAME_COLUMNS if name in table.column_names), None)
    if column is None:
        return {}
    pairs = zip(table[data.candidate_name].to_pylist(), table[column].to_pylist(), strict=True)
    return {key: str(value) for key, value in pairs if value is not None}


def usable_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(threads: int) -> dict[str, Any]:
    """What the numbers depend on besides the run."""
    return {
        "cpu": _cpu_model(),
        "cpus": usable_cpus(),
        "threads": threads,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
