"""The report: what the processes answered, held to one another and the oracle, as JSON data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from math import isnan
from statistics import median
from typing import Any

import numpy as np

from recs_core.compare import agreement, words
from recs_core.compare.agreement import Pair
from recs_core.compare.machine import machine
from recs_core.compare.planning import Plan
from recs_core.compare.processes import Answer
from recs_core.data.interactions import Interactions
from recs_core.evaluation import report_rows
from recs_core.reference.backend import ORACLE

FORMAT, VERSION = "recs-core-comparison", 1

NAME_COLUMNS = ("description", "title", "name")
"""Columns of candidates that a report calls them by, the first that there is."""


def report(
    plan: Plan,
    measured: Sequence[Answer],
    oracle: Answer,
    repeated: Sequence[Answer],
    command: str,
    skipped: dict[str, str],
) -> dict[str, Any]:
    """The report of these answers: the timed runs, the oracle, and the second runs. `skipped` as in `compare`."""
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
        "metrics": _metrics(answer),
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
        found["metrics"] = _metrics(answer)
    return found


def _popularity(done: Sequence[Answer]) -> dict[str, Any] | None:
    """What a model must beat; the same for every backend."""
    if not done:
        return None
    return _metrics(done[0], "popularity")


def _metrics(answer: Answer, of: str = "model") -> dict[str, dict[str, float]]:
    """Accuracy with its intervals, then what is beyond it, where it is of something."""
    prefix = f"beyond/{of}/"
    beyond = {n.removeprefix(prefix): float(v) for n, v in answer.arrays.items() if n.startswith(prefix)}
    rows = report_rows(agreement.metrics_of(answer, of), with_intervals=True)
    return rows | {name: {"value": value} for name, value in beyond.items() if not isnan(value)}


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
