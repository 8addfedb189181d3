"""What a backend computes, settled once per model: towers and optimizer, without the class of any feature.

`TowerPlan`: concatenate what each column looks up, then apply the layers. `UpdatePlan`: which slots each weight has,
where they start, and the numbers of a step. The third plan, of the loss, is made per batch: `recs_core.contract.task`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recs_core.contract.batch import Batch, Codes, Features, Side, flat, recoded
from recs_core.contract.encoders import EncoderPlan
from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.features import Column
from recs_core.contract.manifest import BackendInfo, No
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.towers import Activation, TowerSpec, check_pair
from recs_core.contract.training import Precision


@dataclass(frozen=True)
class Layer:
    """A dense layer: x ↦ activation(x · kernel + bias). `kernel` (in, out), `bias` (out,): canonical names."""

    kernel: str
    bias: str
    shape: tuple[int, int]
    activation: Activation | None


@dataclass(frozen=True)
class TowerPlan:
    """One declared tower as a backend builds it. Equal plans compute the same function of their weights.

    The input (n, `input_dim`) is what the `columns` look up, map or encode, side by side, times the dropout mask where
    a batch brings one; `layers` follow in order. `spec`: what was declared, for who judges a backend; a backend needs
    it for nothing.
    """

    side: Side
    columns: tuple[Column, ...]
    layers: tuple[Layer, ...]
    dropout: float
    spec: TowerSpec = field(compare=False, repr=False)

    @classmethod
    def of(cls, side: Side, spec: TowerSpec) -> TowerPlan:
        """The plan of a declared tower."""
        columns = tuple(feature.column(side) for feature in spec.features)
        widths = [sum(column.width for column in columns), *spec.layers]
        layers = tuple(
            Layer(
                kernel=f"{side}/dense_{i}/kernel",
                bias=f"{side}/dense_{i}/bias",
                shape=(widths[i], widths[i + 1]),
                activation=spec.final_activation if i == len(spec.layers) - 1 else spec.activation,
            )
            for i in range(len(spec.layers))
        )
        return cls(side, columns, layers, spec.dropout, spec)

    @property
    def input_dim(self) -> int:
        """Width of the columns side by side."""
        return sum(column.width for column in self.columns)

    @property
    def output_dim(self) -> int:
        """Width of the tower's raw output."""
        return self.layers[-1].shape[1] if self.layers else self.input_dim

    def unpack(self, batch: Batch) -> Features:
        """This tower's side of a batch with codes that are rows of the whole tables, for a native loop."""
        local = batch.side(self.side)
        codes: dict[str, Codes] = {}
        for column in self.columns:
            if column.table is not None:
                c, rows = local.codes[column.name], batch.rows[column.table]
                codes[column.name] = recoded(c, rows[flat(c)])
        return Features(local.size, codes, local.dense, local.keep)

    @property
    def tables(self) -> dict[str, int]:
        """Canonical name of each table that the columns look rows up in → its width."""
        return {column.table: column.width for column in self.columns if column.table is not None}

    @property
    def kernels(self) -> dict[str, tuple[int, int]]:
        """Canonical name of each column's kernel → its shape."""
        return {c.kernel: (c.length, c.width) for c in self.columns if c.kernel is not None}

    @property
    def encoders(self) -> list[EncoderPlan]:
        """The encoders of the columns that have one."""
        return [column.encoder for column in self.columns if column.encoder is not None]


def check_towers(query: Any, candidate: Any) -> None:
    """Raise `SpecError` unless two towers, each a `TowerPlan` or an adopted tower, fit together."""
    plans = [tower for tower in (query, candidate) if isinstance(tower, TowerPlan)]
    if len(plans) == 2:
        check_pair(query.spec, candidate.spec)
    elif not plans and query.native is candidate.native:  # an optimizer would move it twice in every step
        module = type(query.native).__name__
        raise SpecError(f"the same {module} stands in both towers; give each tower a module of its own")
    elif query.output_dim != candidate.output_dim:
        raise SpecError(
            f"the query tower's output has {query.output_dim} dims, the candidate tower's {candidate.output_dim}; "
            "give both the same width"
        )


def check_encoders(info: BackendInfo, *towers: Any) -> None:
    """Raise `UnsupportedFeature`, with the backend's reason, where a `TowerPlan` has an encoder that it declines. A
    backend that declines one calls this before it builds a model."""
    for encoder in (e for tower in towers if isinstance(tower, TowerPlan) for e in tower.encoders):
        for capability in encoder.spec.capabilities:
            declared = info.capabilities.get(capability, True)
            if isinstance(declared, No):
                timed = " that reads times" if capability != encoder.spec.capability else ""
                name = f"{type(encoder.spec).__name__} encoder{timed}"
                raise UnsupportedFeature(f"backend {info.name!r} has no {name}: {declared.reason}")


def check_precision(info: BackendInfo, precision: Precision | None, dtype: str) -> None:
    """Raise `UnsupportedFeature`, with the backend's reason, for a precision that it declines, and `SpecError` for one
    beside another dtype than float32."""
    if precision is None:
        return
    declared = info.capabilities.get(f"precision_{precision}", No("its manifest does not declare it"))
    if isinstance(declared, No):
        raise UnsupportedFeature(f"backend {info.name!r} has no precision={precision!r}: {declared.reason}")
    if dtype != "float32":
        raise SpecError(f"precision={precision!r} is for a model of dtype='float32', and this one's is {dtype!r}")


def as_columns(features: Sequence[Column | str]) -> tuple[Column, ...]:
    """What an adopted module takes, as columns; a name alone is one code per row. Raises `SpecError`."""
    if isinstance(features, (str, Column)) or not features:
        raise SpecError(f"adopt: features must be a list of the features that the module takes, got {features!r}")
    columns = tuple(Column(feature, "one", 1) if isinstance(feature, str) else feature for feature in features)
    for column in columns:
        if column.encoder is not None:
            raise SpecError(
                f"adopt: a module reads {column.name!r} in order by itself; declare the history without an encoder"
            )
    return columns


@dataclass(frozen=True)
class UpdatePlan:
    """How one optimizer moves weights. `spec` holds the formula's constants, such as `epsilon`. `precision`: what a
    step computes the towers in, as `TrainingSpec` has it; a backend that declines it is given none."""

    spec: Optimizer
    precision: Precision | None = None

    @property
    def moves_all_rows(self) -> bool:
        """Whether every row of a table moves at every step, and not only those that a batch touches."""
        return self.spec.moves_all_rows

    @property
    def clip_norm(self) -> float | None:
        """g ← g · clip_norm / max(‖g‖, clip_norm), one norm over all weights; None: no clipping."""
        return self.spec.clip_norm

    def by_row(self, weight: str) -> bool:
        """Whether the slots of a weight hold one number per row of it."""
        return self.spec.by_row and weight.startswith("table/")

    def decay(self, weight: str) -> float:
        """The decay of a weight per unit of learning rate, before its update; the task's own weights have none."""
        return 0.0 if weight.startswith("task/") else self.spec.weight_decay

    def slots(self, weight: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """The shape of each slot of a weight."""
        return dict.fromkeys(self.spec.slots, tuple(shape)[:1] if self.by_row(weight) else tuple(shape))

    @property
    def start(self) -> float:
        """What every slot holds before the first step."""
        return self.spec.start

    def state_shapes(self, weights: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """`<weight>/<slot>` → shape, for every weight given, and `step`, ()."""
        slots = {f"{name}/{slot}": of for name, s in weights.items() for slot, of in self.slots(name, s).items()}
        return {**slots, "step": ()}

    def scalars(self, learning_rate: float, step: int) -> dict[str, float]:
        """The numbers of step `step` (from 1), in float64: `rate`, and what the formula corrects by."""
        return {"rate": learning_rate, **self.spec.scalars(step)}

    def update(
        self, weight: str, w: Any, g: Any, slots: Mapping[str, Any], scalars: Mapping[str, Any], xp: Any
    ) -> tuple[Any, dict[str, Any]]:
        """A weight, or rows of it, and its slots after a step, as new arrays. See `Optimizer.direction`."""
        if self.decay(weight):
            w = w - scalars["rate"] * self.decay(weight) * w
        direction, slots = self.spec.direction(g, slots, scalars, xp)
        return w - scalars["rate"] * direction, slots
