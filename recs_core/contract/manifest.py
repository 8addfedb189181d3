"""What a plugin says of itself, without importing its framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from recs_core.contract.errors import SpecError

BACKEND_CAPABILITIES: Mapping[str, str] = {
    "categorical": "towers: one id per row",
    "bag": "towers: several ids per row",
    "history": "towers: the mean of past candidates, its own or the candidate tower's table",
    "encoder_gru": "towers: past candidates in order, through a GRU",
    "encoder_attention": "towers: past candidates in order, through causal self-attention",
    "encoder_time": "towers: self-attention with a bias for the time between",
    "numeric": "towers: standardised numbers",
    "text": "towers: hashed words",
    "vector": "towers: given vectors, mapped by a kernel of their own",
    "dropout": "towers: keep-masks given by the core",
    "cosine": "task: cosine scores",
    "dot": "task: inner-product scores",
    "learn_temperature": "task: a learned temperature",
    "candidate_bias": "task: a learned bias per candidate",
    "in-batch": "task: in-batch negatives",
    "uniform": "task: negatives sampled from the corpus",
    "mixed": "task: in-batch and sampled negatives",
    "corpus": "task: the whole corpus as negatives",
    "logq": "task: correction for the sampling probability",
    "refined_logq": "task: the same, the positive uncorrected",
    "remove_accidental_hits": "task: the target's candidate masked in other columns",
    "mask_positives": "task: known positives masked",
    "score_mask": "task: a mask of scores, given",
    "hard_negatives": "task: the highest-scored negatives only",
    "sample_weight": "task: a weight per target",
    "sum_reduction": "task: reduction='sum'",
    "several_targets": "task: several targets per query",
    "adagrad": "optimizer: Adagrad",
    "row_wise_adagrad": "optimizer: RowWiseAdagrad",
    "lazy_adam": "optimizer: Adam, touched rows only",
    "dense_adam": "optimizer: Adam(dense=True)",
    "weight_decay": "optimizer: decoupled decay",
    "clip_norm": "optimizer: clipping by global norm",
    "sparse_rows": "a step's cost does not depend on the size of the tables",
    "float64": "dtype='float64'",
    "precision_bf16": "precision='bf16': towers of a training step in bfloat16, all else in float32",
    "state": "optimizer state out and in: resume, move to another backend",
    "adopt": "a user's own native module as a tower",
    "native_loop": "towers and task usable in the framework's own training loop",
    "distributed": "one global batch on several workers, as `WithWorkers` of the protocols has it",
    "device": "a choice of device, as `WithDevices` of the protocols has it",
}
"""Every capability a backend declares, with its meaning."""

INDEX_CAPABILITIES: Mapping[str, str] = {
    "exclude": "exclusions that never leak",
    "allow": "an allow-list",
    "memory_map": "vectors searched from a memory map",
    "float64_scores": "scores as float64 has them, rounded once: near-ties in order, equal vectors tie",
    "storable": "what build made, out as arrays and in again",
    "updatable": "rows replaced, added and deleted without building again",
}
"""Every capability an index declares, with its meaning."""


@dataclass(frozen=True)
class No:
    """A declared lack and its reason: the call raises `UnsupportedFeature` with it."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason:
            raise SpecError("No: a declared lack needs a reason")

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class BackendInfo:
    """A backend's manifest.

    `factory`: `"module:attribute"`, called as `factory(engine=…)` and returning a `Backend`. `requires`: top-level
    modules that must be importable, checked without importing them. `engines`: names after `name[…]`; empty for
    none. `capabilities`: each name of `BACKEND_CAPABILITIES` → True or `No(reason)`. `lacks`: engine → those that are
    True, and not on this engine. `one_worker_per_process`: of several workers each is a process of its own, as the
    framework joins others once in one. `static_shapes`: a step
    also takes batches that are padded (rows out of range, targets of weight 0), which the suite then checks; the core
    pads none, and a backend that compiles by shape pads its own.
    """

    name: str
    factory: str
    summary: str
    requires: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    capabilities: Mapping[str, bool | No] = field(default_factory=dict)
    static_shapes: bool = False
    lacks: Mapping[str, Mapping[str, No]] = field(default_factory=dict)
    one_worker_per_process: bool = False

    def __post_init__(self) -> None:
        """Raises `SpecError` for `lacks` of an engine, or of a capability, that it has not."""
        for engine, lacks in self.lacks.items():
            if engine not in self.engines or not all(self.capabilities.get(name) is True for name in lacks):
                raise SpecError(
                    f"backend {self.name!r} lacks {', '.join(lacks)} on {engine!r}; name one of its engines, and "
                    "capabilities that are True on another"
                )

    def on(self, engine: str | None) -> BackendInfo:
        """The manifest of one engine; None: of them all."""
        if engine is None:
            return self
        return replace(self, capabilities={**self.capabilities, **self.lacks.get(engine, {})}, lacks={})


RECALL_K = 10
"""The k of an index's `recall_floor`."""


@dataclass(frozen=True)
class IndexInfo:
    """An index's manifest.

    `factory`: `"module:attribute"`, called with the options of its spec ("mine:probes=32" → `probes=32`), each of which
    has a default, and returning an empty `Index`. `tuned`: options of a search → values to try, the quickest first, for
    `recs index tune`; an index restored with another value needs no other `build`. `is_exact`: it finds the
    best k, all of them, ties in the order of positions. One that is approximate declares its `recall_floor` instead,
    above 0 and at most 1: the least recall@10 that it has on the vectors of the conformance check `index/recall`.
    `metric`: another than "inner_product" is refused. `requires`: top-level modules that must be importable, checked
    without importing them. `capabilities`: each name of `INDEX_CAPABILITIES` → True or `No(reason)`.

    Raises `SpecError` for an exact index with a floor, and for an approximate one without.
    """

    name: str
    factory: str
    summary: str
    is_exact: bool = False
    recall_floor: float | None = None
    metric: str = "inner_product"
    requires: tuple[str, ...] = ()
    capabilities: Mapping[str, bool | No] = field(default_factory=dict)
    tuned: Mapping[str, tuple[int | float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.is_exact and self.recall_floor is not None:
            raise SpecError(f"index {self.name!r} is exact, which no recall_floor goes with; leave out one of the two")
        if not self.is_exact and (self.recall_floor is None or not 0 < self.recall_floor <= 1):
            raise SpecError(
                f"index {self.name!r} has recall_floor={self.recall_floor!r}; declare how much of the best "
                f"{RECALL_K} it finds at least, above 0 and at most 1, or is_exact=True"
            )

    @property
    def finds(self) -> str:
        """What it promises to find, in words: "all", or "recall@10 ≥ 0.9"."""
        return "all" if self.is_exact else f"recall@{RECALL_K} ≥ {self.recall_floor:g}"
