"""Do two trainings of one run agree, under which tolerance, and where do they first part?

    P1   float64: losses within 1e-9, weights within 1e-7 (both relative to the value, or to 1 where it is smaller), the
         same lists
    P3   float32, smooth towers, an optimizer that does not divide by tiny roots, over the first 100 steps or the first
         epoch: losses within 1e-5, scores within 1e-4 of the largest, lists the same for 99 % of the queries
    P5   float32, a ReLU or a longer run: the first loss within 1e-6, and every metric of each within the other's 95 %
         bootstrap interval

Lists are the same if they hold the same candidates in the same order, up to swaps of scores closer than twice the score
error. That alone would be true of any two lists (sorted scores move no further than the scores do), hence the bound on
the score error itself. The score error leaves out what all of a query's scores have moved by: a softmax does not see
it, so its gradient is zero but for rounding, and Adam makes steps of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.compare.processes import Answer
from recs_core.contract.towers import TowerSpec
from recs_core.evaluation import Interval, QueryMetrics, intervals
from recs_core.evaluation import compare as paired
from recs_core.experiment import Experiment, ModelSpec

SAME_LISTS = 0.99
FLOAT32 = 2.0**-23
FIRST_LOSS = 1e-6
"""Before the first update nothing has been divided by anything: P2 holds whatever comes later."""

SERVING_ERROR = 8 * FLOAT32
"""Of the largest score: lists are made in float32, whatever the model was trained in."""


@dataclass(frozen=True)
class Tier:
    """What two trainings are held to, and why that and no more. `window`: the steps that losses are compared over."""

    name: str
    why: str
    window: int
    loss: float | None
    weights: float
    scores: float | None


@dataclass(frozen=True)
class Check:
    """One quantity held to one tolerance."""

    what: str
    value: float
    allowed: float
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Pair:
    """How two trainings compare. `parting`: the first step at which a tensor differs by more than rounding, or None."""

    first: str
    second: str
    tier: str
    checks: list[Check] = field(default_factory=list)
    parting: dict[str, Any] | None = None
    looked_at: list[int] = field(default_factory=list)
    loss_difference: float = 0.0
    steps: int = 0
    weight_difference: float | None = None
    overlap: float | None = None
    same_lists: float | None = None
    rank_correlation: float | None = None
    score_difference: float | None = None
    score_error: float | None = None
    metric_differences: dict[str, Interval] = field(default_factory=dict)

    @property
    def agree(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "agree": self.agree, "line": self.line()}

    def line(self) -> str:
        """The verdict in one sentence."""
        failed = [check for check in self.checks if not check.ok]
        telling = failed or [check for check in self.checks if check.what not in ("initial weights", "batches")]
        says = "; ".join(check.detail for check in telling)
        parts = "" if self.agree or self.parting is None else f"; they part {_where(self.parting)}"
        return f"{self.first} and {self.second} {'agree' if self.agree else 'DIFFER'} ({self.tier}): {says}{parts}"


def _where(parting: Mapping[str, Any]) -> str:
    step = "before the first step" if parting["step"] == 0 else f"by step {parting['step']}"
    return f"{step}, first in {parting['tensor']} ({parting['difference']:.1e})"


def window(total: int, steps_per_epoch: int) -> int:
    """Steps that float32 rounding leaves comparable one by one: all of up to 100, else the first epoch's."""
    return total if total <= 100 else min(steps_per_epoch, 100)


def tier(experiment: Experiment, model: ModelSpec, total: int, steps_per_epoch: int) -> Tier:
    """What trainings of an experiment are held to. `model` has every spec spelled out."""
    steps = window(total, steps_per_epoch)
    if experiment.dtype == "float64":
        return Tier("P1", "float64: rounding does not show", total, 1e-9, 1e-7, None)
    assert model.query is not None and model.candidate is not None and model.optimizer is not None
    bent = [side for side, tower in (("query", model.query), ("candidate", model.candidate)) if _has_relu(tower)]
    if bent:
        why = f"float32 with ReLU in the {' and '.join(bent)} tower: rounding can switch a unit on or off"
        return Tier("P5", why, steps, None, 1e-5, None)
    if not model.optimizer.is_well_conditioned:
        why = f"float32 with {model.optimizer}: dividing by a tiny root turns rounding into whole steps"
        return Tier("P5", why, steps, None, 1e-5, None)
    if total > steps:
        why = f"float32, smooth, {total:,} steps: losses of the first {steps} (P3), metrics at the end (P5)"
        return Tier("P3+P5", why, steps, 1e-5, 1e-5, None)
    return Tier("P3", f"float32, smooth towers, {total} steps", steps, 1e-5, 1e-5, 1e-4)


def _has_relu(tower: TowerSpec) -> bool:
    inner = tower.activation == "relu" and len(tower.layers) > 1
    return inner or (tower.final_activation == "relu" and len(tower.layers) > 0)


def compare(first: Answer, second: Answer, held_to: Tier, *, shown: int, k: int) -> Pair:
    """Everything measured between two trainings. `shown`: how many queries, the first, are shown; `k`: how long."""
    names = first.job.backend, second.job.backend
    steps = min(len(first.losses), len(second.losses))
    partial = steps < max(len(first.losses), len(second.losses))
    here = Tier("P3", held_to.why, held_to.window, 1e-5, 1e-5, None) if partial and held_to.name == "P3+P5" else held_to
    checks = [_same_start(first, second), _same_batches(first, second)]
    off = _relative(first.losses[:steps], second.losses[:steps])
    if held_to.loss is None:
        detail = f"first loss within {off[0]:.1e} (allowed {FIRST_LOSS:.0e})"
        checks.append(Check("first loss", float(off[0]), FIRST_LOSS, bool(off[0] <= FIRST_LOSS), detail))
    judged = off[: held_to.window]
    at = int(np.argmax(judged))
    if here.loss is not None:
        detail = f"losses within {judged[at]:.1e} (allowed {here.loss:.0e}) over {len(judged)} steps"
        checks.append(Check("loss", float(judged[at]), here.loss, bool(judged[at] <= here.loss), detail))
    common = [step for step in first.steps_kept if step in second.steps_kept]
    apart = {step: _furthest(first.weights(step), second.weights(step)) for step in common}
    parting = next(
        (
            {"step": step, "tensor": tensor, "difference": difference, "tolerance": held_to.weights}
            for step, (tensor, difference) in apart.items()
            if difference > held_to.weights
        ),
        None,
    )
    if held_to.name == "P1" and apart:
        worst = max(difference for _, difference in apart.values())
        detail = f"weights within {worst:.1e} (allowed {held_to.weights:.0e})"
        checks.append(Check("weights", worst, held_to.weights, worst <= held_to.weights, detail))
    lists = {} if partial else _lists(first, second, shown, k)
    checks += _list_checks(here, lists)
    differences: dict[str, Interval] = {}
    if not partial and "metrics/model-queries" in first.arrays and "metrics/model-queries" in second.arrays:
        before, after = metrics_of(first), metrics_of(second)
        differences = {name: Interval(**value) for name, value in paired(before, after).items()}
        if "P5" in here.name and len(before.queries) > 1:  # one query has no interval
            checks.append(_metric_check(before, after))
    return Pair(
        *names,
        tier=here.name,
        checks=[check for check in checks if check is not None],
        parting=parting,
        looked_at=common,
        loss_difference=float(off.max()),
        steps=steps,
        weight_difference=apart[common[-1]][1] if common else None,
        metric_differences=differences,
        overlap=lists.get("overlap"),
        same_lists=lists.get("same_lists"),
        rank_correlation=lists.get("rank_correlation"),
        score_difference=lists.get("score_difference"),
        score_error=lists.get("score_error"),
    )


def _same_start(first: Answer, second: Answer) -> Check:
    same = first.result["digests"]["0"]["weights"] == second.result["digests"]["0"]["weights"]
    return Check("initial weights", float(not same), 0, same, f"{'the same' if same else 'different'} initial weights")


def _same_batches(first: Answer, second: Answer) -> Check:
    a, b = (
        {step: found["batch"] for step, found in answer.result["digests"].items() if "batch" in found}
        for answer in (first, second)
    )
    other = [step for step in a if step in b and a[step] != b[step]]
    detail = f"another batch at step {other[0]}" if other else "the same batches"
    return Check("batches", len(other), 0, not other, detail)


def _relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(a - b) / np.maximum(1, np.abs(b))


def _furthest(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> tuple[str, float]:
    """The weight that differs most, and by how much, relative to the value or to 1 where it is smaller."""
    off = {name: float(_relative(a[name].astype(np.float64), b[name].astype(np.float64)).max()) for name in a}
    name = max(off, key=lambda n: off[n])
    return name, off[name]


def _lists(first: Answer, second: Answer, shown: int, k: int) -> dict[str, Any]:
    """Overlap and identity of lists over all queries, rank correlation over the corpus for those shown."""
    if "lists/codes" not in first.arrays or "lists/codes" not in second.arrays:
        return {}
    a, b = first.arrays["lists/codes"], second.arrays["lists/codes"]
    of_a, of_b = _scores(first, a), _scores(second, b)
    cross_a, cross_b = _scores(first, b), _scores(second, a)
    off = np.where(np.concatenate([a, b], 1) < 0, np.nan, np.concatenate([of_a - cross_b, cross_a - of_b], 1))
    shift = np.nanmedian(off, axis=1, keepdims=True)
    error = float(np.nanmax(np.abs(off - shift)))
    scale = float(max(np.abs(of_a).max(), np.abs(of_b).max(), 1e-30))
    limit = 2 * max(error, SERVING_ERROR * scale)
    swapped = (a != b) & (np.abs(of_a - cross_a) <= limit)
    top_a, top_b = a[:, :k], b[:, :k]
    held = (top_a >= 0).sum()
    overlap = ((top_a[:, :, None] == top_b[:, None, :]) & (top_a[:, :, None] >= 0)).sum() / max(held, 1)
    whole = [
        answer.arrays["vectors/query"][:shown].astype(np.float64) @ answer.arrays["vectors/candidate"].T
        for answer in (first, second)
    ]
    return {
        "overlap": float(overlap),
        "identical": int((a == b).all(1).sum()),
        "same": int(((a == b) | swapped).all(1).sum()),
        "queries": len(a),
        "same_lists": float(((a == b) | swapped).all(1).mean()),
        "length": a.shape[1],
        "score_difference": float(np.nanmax(np.abs(off))),
        "score_error": error,
        "scale": scale,
        "rank_correlation": float(np.mean([_spearman(x, y) for x, y in zip(*whole, strict=True)])),
    }


def _scores(answer: Answer, codes: NDArray[Any]) -> NDArray[np.float64]:
    """Scores of corpus positions, a row of them per query, in float64; 0 at −1."""
    queries = answer.arrays["vectors/query"].astype(np.float64)
    candidates = answer.arrays["vectors/candidate"][codes].astype(np.float64)
    return np.where(codes < 0, 0, np.einsum("qd,qkd->qk", queries, candidates))


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation, tied values at their mean rank; 1 where both are constant, 0 where one is."""
    x, y = _mean_ranks(a), _mean_ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else float(x @ x == y @ y)


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _list_checks(held_to: Tier, lists: Mapping[str, Any]) -> list[Check]:
    if not lists or "P5" in held_to.name:
        return []
    checks = []
    if held_to.scores is not None:
        off = lists["score_error"] / lists["scale"]
        detail = f"scores within {off:.1e} of the largest (allowed {held_to.scores:.0e})"
        checks.append(Check("scores", off, held_to.scores, off <= held_to.scores, detail))
    share, least = lists["same_lists"], 1.0 if held_to.name == "P1" else SAME_LISTS
    swaps = lists["same"] - lists["identical"]
    detail = f"{lists['same']} of {lists['queries']} top-{lists['length']} lists the same"
    detail += f", {swaps} of them up to swaps of near-ties" if swaps else ""
    return [*checks, Check("lists", share, least, share >= least, detail)]


def metrics_of(answer: Answer, of: str = "model") -> QueryMetrics:
    """Per-query metrics of the model, or of "popularity"."""
    prefix = f"metrics/{of}/"
    values = {n.removeprefix(prefix): v for n, v in answer.arrays.items() if n.startswith(prefix)}
    return QueryMetrics(values, answer.arrays[f"metrics/{of}-targets"], answer.arrays[f"metrics/{of}-queries"])


def _metric_check(before: QueryMetrics, after: QueryMetrics) -> Check:
    """Each one's metrics within the other's interval."""
    a, b = intervals(before), intervals(after)
    outside = [
        name
        for name in a
        if not (b[name]["low"] <= a[name]["value"] <= b[name]["high"])
        or not (a[name]["low"] <= b[name]["value"] <= a[name]["high"])
    ]
    detail = (
        f"{outside[0]} is {a[outside[0]]['value']:.4f} and {b[outside[0]]['value']:.4f}, outside the other's interval"
        if outside
        else f"all {len(a)} metrics within each other's 95 % interval"
    )
    return Check("metrics", len(outside), 0, not outside, detail)
