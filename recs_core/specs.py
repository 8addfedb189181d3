"""What a user declares: features, towers, the retrieval task, optimizers, training.

Frozen dataclasses, validated when made, JSON both ways (`to_json`, `from_json`). Nothing here holds data,
weights or a framework.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from recs_core.errors import SpecError

Activation: TypeAlias = Literal["relu", "tanh", "sigmoid"]
Negatives: TypeAlias = Literal["in-batch", "uniform", "mixed", "corpus"]
Step: TypeAlias = Literal["interaction", "query"]

ACTIVATIONS = ("relu", "tanh", "sigmoid")
NEGATIVES = ("in-batch", "uniform", "mixed", "corpus")


def _require(condition: bool, where: object, message: str) -> None:
    if not condition:
        raise SpecError(f"{type(where).__name__}: {message}")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _one_of(value: object, choices: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in choices


class _Spec:
    """What every spec does when it is made: NumPy's scalars, as a search over settings draws them, become Python's."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())


@dataclass(frozen=True)
class Feature(_Spec):
    """What every feature has: the name of the column it reads."""

    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(isinstance(self.name, str) and bool(self.name), self, f"name must be a column name, got {self.name!r}")
        _require("/" not in self.name, self, f"name {self.name!r} must not contain '/', which separates weight names")

    @property
    def table_name(self) -> str | None:
        """Canonical name of the table this feature looks rows up in, `table/…`; None for a dense one."""
        return None

    @property
    def width(self) -> int:
        """How many numbers the feature adds to its tower's input."""
        raise NotImplementedError


@dataclass(frozen=True)
class _TableFeature(Feature):
    dim: int = 64
    table: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_whole(self.dim, 1), self, f"{self.name!r} needs dim ≥ 1, got {self.dim!r}")
        named = isinstance(self.table, str) and bool(self.table) and "/" not in self.table
        _require(
            self.table is None or named, self, f"{self.name!r}: table is a name without '/' or None, got {self.table!r}"
        )

    @property
    def table_name(self) -> str:
        return f"table/{self.table or self.name}"

    @property
    def width(self) -> int:
        return self.dim


@dataclass(frozen=True)
class Categorical(_TableFeature):
    """One id a row (string or int64), looked up in a table of shape (num_oov + vocabulary, dim).

    Rows 0 … num_oov − 1 are for ids never seen in training (a stable hash picks one); they start at zero.
    `table`: name of the table, by default the column's; two features that state the same `table` share it
    and its vocabulary.
    """

    num_oov: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_whole(self.num_oov, 1), self, f"{self.name!r} needs num_oov ≥ 1, got {self.num_oov!r}")


@dataclass(frozen=True)
class Bag(_TableFeature):
    """Several ids a row (a list column), pooled: `mean` (÷ the number of ids) or `sum`. An empty bag is zeros."""

    num_oov: int = 1
    pooling: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_whole(self.num_oov, 1), self, f"{self.name!r} needs num_oov ≥ 1, got {self.num_oov!r}")
        _require(
            _one_of(self.pooling, ("mean", "sum")),
            self,
            f"{self.name!r}: pooling is 'mean' or 'sum', got {self.pooling!r}",
        )


@dataclass(frozen=True)
class Text(_TableFeature):
    """Words of a text and their n-grams up to `ngrams`, hashed into `buckets` rows, mean-pooled. No text is zeros."""

    buckets: int = 2**15
    ngrams: int = 2
    pooling: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_whole(self.buckets, 1), self, f"{self.name!r} needs buckets ≥ 1, got {self.buckets!r}")
        _require(_whole(self.ngrams, 1), self, f"{self.name!r} needs ngrams ≥ 1, got {self.ngrams!r}")


@dataclass(frozen=True)
class History(_TableFeature):
    """The query's past candidates, mean-pooled; never the target itself. A query feature only.

    `name` is the candidate id column. `share="candidate"` (default) uses the candidate tower's table of that
    name; `share=None` gives the history its own table, `table/<name>_history`. In a step by interaction the
    input is the strictly earlier candidates; in a step by query a random share `keep` of them is the input and
    the rest are the targets. `max_length` keeps the latest ones only (None: all).
    """

    share: Literal["candidate"] | None = "candidate"
    keep: float = 0.5
    max_length: int | None = None
    pooling: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            self.share is None or _one_of(self.share, ("candidate",)),
            self,
            f"{self.name!r}: share is 'candidate' or None, got {self.share!r}",
        )
        _require(_finite(self.keep) and 0 < self.keep < 1, self, f"{self.name!r} needs 0 < keep < 1, got {self.keep!r}")
        _require(
            self.max_length is None or _whole(self.max_length, 1),
            self,
            f"{self.name!r} needs max_length ≥ 1 or None, got {self.max_length!r}",
        )

    @property
    def table_name(self) -> str:
        if self.table is not None or self.share == "candidate":
            return f"table/{self.table or self.name}"
        return f"table/{self.name}_history"


@dataclass(frozen=True)
class Numeric(Feature):
    """One number a row, standardised with the training mean and standard deviation (population; 1 if it is 0)."""

    @property
    def width(self) -> int:
        return 1


@dataclass(frozen=True)
class TowerSpec(_Spec):
    """Features, concatenated in the order given, then dense layers.

    `activation` follows every layer but the last, `final_activation` the last; None is linear. `dropout` is the
    share of the concatenated input that a training step zeroes (the rest is scaled by 1/(1 − dropout)).
    Without layers the tower's output is the concatenation itself.
    """

    features: Sequence[Feature]
    layers: Sequence[int] = ()
    activation: Activation | None = "relu"
    final_activation: Activation | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("features", "layers"):
            value = getattr(self, name)
            _require(
                isinstance(value, Sequence) and not isinstance(value, (str, bytes)),
                self,
                f"{name} must be a list, got {value!r}",
            )
            object.__setattr__(self, name, tuple(v.item() if isinstance(v, np.generic) else v for v in value))
        _require(bool(self.features), self, "needs at least one feature")
        for feature in self.features:
            _require(isinstance(feature, Feature), self, f"features must be Categorical, Bag, …, got {feature!r}")
        names = [feature.name for feature in self.features]
        _require(len(set(names)) == len(names), self, f"feature names must differ, got {names}")
        _require(
            all(_whole(units, 1) for units in self.layers), self, f"layers must be widths ≥ 1, got {list(self.layers)}"
        )
        for name in ("activation", "final_activation"):
            value = getattr(self, name)
            _require(
                value is None or _one_of(value, ACTIVATIONS),
                self,
                f"{name} is one of {', '.join(ACTIVATIONS)} or None, got {value!r}",
            )
        _require(_finite(self.dropout) and 0 <= self.dropout < 1, self, f"needs 0 ≤ dropout < 1, got {self.dropout!r}")

    @property
    def input_dim(self) -> int:
        """Width of the concatenated features."""
        return sum(feature.width for feature in self.features)

    @property
    def output_dim(self) -> int:
        """Width of the tower's raw output."""
        return self.layers[-1] if self.layers else self.input_dim


@dataclass(frozen=True)
class RetrievalSpec(_Spec):
    """The retrieval task: how a pair is scored and what it is trained against (docs/meanings.md pins each).

    `scoring`: "cosine" or "dot". `temperature` divides the score; with `learn_temperature` it is where a learned
    one starts. `candidate_bias` adds a learned number a candidate. `negatives`: "in-batch", "uniform" (sampled from
    the corpus), "mixed" (both) or "corpus" (all of it); `num_negatives` is how many are sampled a step. `logq`:
    correct in-batch and mixed scores by − log q; "refined" leaves the positive uncorrected. `remove_accidental_hits`
    masks other columns that hold the target's candidate; `mask_positives` masks every known positive of the query.
    `hard_negatives` keeps the highest-scored n negatives of a row. `reduction`: "mean" is Σ w·ℓ / Σ w, "sum" Σ w·ℓ.
    """

    scoring: Literal["cosine", "dot"] = "cosine"
    temperature: float = 0.1
    learn_temperature: bool = False
    candidate_bias: bool = True
    negatives: Negatives = "in-batch"
    num_negatives: int | None = None
    logq: bool | Literal["refined"] = True
    remove_accidental_hits: bool = True
    mask_positives: bool = False
    hard_negatives: int | None = None
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_one_of(self.scoring, ("cosine", "dot")), self, f"scoring is 'cosine' or 'dot', got {self.scoring!r}")
        _require(
            _finite(self.temperature) and self.temperature > 0, self, f"needs temperature > 0, got {self.temperature!r}"
        )
        _require(
            _one_of(self.negatives, NEGATIVES),
            self,
            f"negatives is one of {', '.join(NEGATIVES)}, got {self.negatives!r}",
        )
        sampled = self.negatives in ("uniform", "mixed")
        _require(
            _whole(self.num_negatives, 1) if sampled else self.num_negatives is None,
            self,
            f"negatives={self.negatives!r} needs num_negatives {'≥ 1' if sampled else '= None'}, "
            f"got {self.num_negatives!r}",
        )
        known = isinstance(self.logq, bool) or _one_of(self.logq, ("refined",))
        _require(known, self, f"logq is True, False or 'refined', got {self.logq!r}")
        _require(
            self.hard_negatives is None or _whole(self.hard_negatives, 1),
            self,
            f"hard_negatives is a number ≥ 1 or None, got {self.hard_negatives!r}",
        )
        _require(
            _one_of(self.reduction, ("mean", "sum")), self, f"reduction is 'mean' or 'sum', got {self.reduction!r}"
        )
        for name in ("learn_temperature", "candidate_bias", "remove_accidental_hits", "mask_positives"):
            _require(
                isinstance(getattr(self, name), bool), self, f"{name} is True or False, got {getattr(self, name)!r}"
            )

    @property
    def corrects(self) -> bool:
        """Whether the task needs `candidate_sampling_probability`."""
        return self.negatives == "uniform" or (self.negatives in ("in-batch", "mixed") and self.logq is not False)

    @property
    def masks_hits(self) -> bool:
        """Whether the task needs `candidate_ids` to mask accidental hits (a corpus holds no candidate twice)."""
        return self.remove_accidental_hits and self.negatives != "corpus"


@dataclass(frozen=True)
class Optimizer(_Spec):
    """What every optimizer has. `weight_decay` is decoupled (w ← w − lr·decay·w, before the update, on touched rows
    and dense weights, not on `task/…`); `clip_norm`: g ← g · clip_norm / max(‖g‖, clip_norm), one norm over all
    weights, rows merged."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            _finite(self.learning_rate) and self.learning_rate > 0,
            self,
            f"needs learning_rate > 0, got {self.learning_rate!r}",
        )
        _require(
            _finite(self.weight_decay) and self.weight_decay >= 0,
            self,
            f"needs weight_decay ≥ 0, got {self.weight_decay!r}",
        )
        _require(
            self.clip_norm is None or (_finite(self.clip_norm) and self.clip_norm > 0),
            self,
            f"needs clip_norm > 0 or None, got {self.clip_norm!r}",
        )

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state kept for each weight."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """a ← a + g²; w ← w − lr·g / (√a + epsilon). Touched rows only. Slot `accumulator`, shaped as the weight."""

    learning_rate: float = 0.1
    initial_accumulator: float = 0.1
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            _finite(self.initial_accumulator) and self.initial_accumulator >= 0,
            self,
            f"needs initial_accumulator ≥ 0, got {self.initial_accumulator!r}",
        )
        _require(_finite(self.epsilon) and self.epsilon > 0, self, f"needs epsilon > 0, got {self.epsilon!r}")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("accumulator",)


@dataclass(frozen=True)
class RowWiseAdagrad(Adagrad):
    """Adagrad with one accumulator a row: a ← a + mean of the row's g². Dense weights use plain Adagrad."""


@dataclass(frozen=True)
class Adam(Optimizer):
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − lr·m̂ / (√v̂ + epsilon), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).

    By default lazy for tables: only rows that a batch touches move, with one global step counter t. `dense=True` is
    the textbook one: every row's slots decay at every step. Slots `m` and `v`, shaped as the weight.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-5
    dense: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta_1", "beta_2"):
            value = getattr(self, name)
            _require(_finite(value) and 0 <= value < 1, self, f"needs 0 ≤ {name} < 1, got {value!r}")
        _require(_finite(self.epsilon) and self.epsilon > 0, self, f"needs epsilon > 0, got {self.epsilon!r}")
        _require(isinstance(self.dense, bool), self, f"dense is True or False, got {self.dense!r}")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "v")


@dataclass(frozen=True)
class Schedule(_Spec):
    """Learning-rate factor: linear warm-up over the first `warmup` share of all steps, then linear decay to `final`."""

    warmup: float = 0.05
    final: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_finite(self.warmup) and 0 <= self.warmup < 1, self, f"needs 0 ≤ warmup < 1, got {self.warmup!r}")
        _require(_finite(self.final) and 0 <= self.final <= 1, self, f"needs 0 ≤ final ≤ 1, got {self.final!r}")

    def factor(self, step: int, total: int) -> float:
        """Factor at `step` (from 0) of `total`."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        progress = (step - warm) / max(1, total - warm - 1)
        return 1 + (self.final - 1) * min(1.0, progress)


@dataclass(frozen=True)
class TrainingSpec(_Spec):
    """How `fit` trains, unless its own arguments say otherwise.

    `batch_size` counts what `step` names: interactions, or queries with all their targets. A target's weight is
    n^(row_weight − 1) over its query's n targets, × (½^(age / recency_days) + 0.02) where `recency_days` is a
    half-life in days before the newest training row (None: no recency). `drop_last` leaves out an epoch's last batch
    where it is smaller than `batch_size`, as a batch normalisation of one's own may need; who is in it differs from
    epoch to epoch.
    """

    epochs: int = 10
    batch_size: int = 4096
    step: Step = "interaction"
    recency_days: float | None = None
    row_weight: float = 1.0
    schedule: Schedule | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_whole(self.epochs, 1), self, f"needs epochs ≥ 1, got {self.epochs!r}")
        _require(_whole(self.batch_size, 1), self, f"needs batch_size ≥ 1, got {self.batch_size!r}")
        _require(
            _one_of(self.step, ("interaction", "query")), self, f"step is 'interaction' or 'query', got {self.step!r}"
        )
        _require(
            self.recency_days is None or (_finite(self.recency_days) and self.recency_days > 0),
            self,
            f"needs recency_days > 0 or None, got {self.recency_days!r}",
        )
        _require(_finite(self.row_weight), self, f"row_weight must be a number, got {self.row_weight!r}")
        _require(
            self.schedule is None or isinstance(self.schedule, Schedule),
            self,
            f"schedule is recs.Schedule(warmup=…, final=…) or None, got {self.schedule!r}",
        )
        _require(isinstance(self.drop_last, bool), self, f"drop_last is True or False, got {self.drop_last!r}")


Spec: TypeAlias = Feature | TowerSpec | RetrievalSpec | Optimizer | Schedule | TrainingSpec

_TYPES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Categorical, Bag, Text, History, Numeric, TowerSpec, RetrievalSpec,
        Adagrad, RowWiseAdagrad, Adam, Schedule, TrainingSpec,
    )
}  # fmt: skip


def to_json(spec: Spec) -> dict[str, Any]:
    """The spec as plain JSON data; `type` names its class."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return to_json(value)  # type: ignore[arg-type]
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    fields = {f.name: plain(getattr(spec, f.name)) for f in dataclasses.fields(spec)}
    return {"type": type(spec).__name__, **fields}


def from_json(data: Mapping[str, Any] | str) -> Any:
    """The spec that `to_json` wrote. Raises `SpecError` for an unknown type or field."""
    if isinstance(data, str):
        data = json.loads(data)
    if not isinstance(data, Mapping) or data.get("type") not in _TYPES:
        known = ", ".join(_TYPES)
        raise SpecError(
            f'a spec needs "type", one of {known}; got {data.get("type") if isinstance(data, Mapping) else data!r}'
        )
    cls = _TYPES[data["type"]]
    known_fields = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known_fields - {"type"})
    if unknown:
        raise SpecError(f"{data['type']} has no field {unknown[0]!r}; it has {', '.join(sorted(known_fields))}")

    def built(value: Any) -> Any:
        if isinstance(value, Mapping):
            return from_json(value)
        return [built(item) for item in value] if isinstance(value, list) else value

    try:
        return cls(**{name: built(value) for name, value in data.items() if name != "type"})
    except TypeError as error:
        raise SpecError(f"{data['type']}: {error}") from error


def check_pair(query: TowerSpec, candidate: TowerSpec) -> None:
    """Raise `SpecError` unless the two towers fit together: output dims, shared tables, history's place."""
    if query.output_dim != candidate.output_dim:
        raise SpecError(
            f"the query tower's output has {query.output_dim} dims, the candidate tower's {candidate.output_dim}; "
            "give both the same last layer"
        )
    for feature in candidate.features:
        if isinstance(feature, History):
            raise SpecError(f"History({feature.name!r}) stands in the candidate tower; it is a query feature")
    owners: dict[str, tuple[str, Feature]] = {}
    for side, tower in (("query", query), ("candidate", candidate)):
        for feature in tower.features:
            if not isinstance(feature, _TableFeature):
                continue
            if feature.table_name in owners:
                _check_shared(owners[feature.table_name], (side, feature))
            owners[feature.table_name] = (side, feature)
    for feature in query.features:
        shares = isinstance(feature, History) and feature.share == "candidate" and feature.table is None
        if shares and not any(isinstance(f, Categorical) and f.name == feature.name for f in candidate.features):
            raise SpecError(
                f"History({feature.name!r}, share='candidate') shares {feature.table_name}, but the candidate tower "
                f"has no Categorical({feature.name!r}); add it, or say share=None"
            )


def _check_shared(first: tuple[str, Feature], second: tuple[str, Feature]) -> None:
    """Two features of one table must mean it (a stated `table`, or a shared history) and agree on its shape."""
    (side_a, a), (side_b, b) = first, second
    assert isinstance(a, _TableFeature) and isinstance(b, _TableFeature)
    meant = (a.table is not None and b.table is not None) or any(isinstance(f, History) for f in (a, b))
    if not meant:
        raise SpecError(
            f"both {side_a} {a.name!r} and {side_b} {b.name!r} would use {a.table_name}; give each its own table=, "
            "or the same one to share it"
        )
    if a.dim != b.dim:
        raise SpecError(
            f"{side_a} {a.name!r} and {side_b} {b.name!r} share {a.table_name} but have dim {a.dim} and {b.dim}"
        )
    if isinstance(a, Text) != isinstance(b, Text):
        raise SpecError(
            f"{side_a} {a.name!r} and {side_b} {b.name!r} share {a.table_name}, but only one of them is Text"
        )
    for attribute in ("num_oov", "buckets"):
        x, y = getattr(a, attribute, None), getattr(b, attribute, None)
        if x is not None and y is not None and x != y:
            raise SpecError(
                f"{side_a} {a.name!r} and {side_b} {b.name!r} share {a.table_name} but have {attribute} {x} and {y}"
            )


__all__ = [
    "ACTIVATIONS", "NEGATIVES", "Activation", "Adagrad", "Adam", "Bag", "Categorical", "Feature", "History",
    "Negatives", "Numeric", "Optimizer", "RetrievalSpec", "RowWiseAdagrad", "Schedule", "Spec", "Step", "Text",
    "TowerSpec", "TrainingSpec", "check_pair", "from_json", "to_json",
]  # fmt: skip
