"""Declarations as plain JSON data, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from recs_core.contract.errors import SpecError
from recs_core.contract.features import Bag, Categorical, Feature, History, Numeric, Text
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer, RowWiseAdagrad
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import Schedule, TrainingSpec

Spec: TypeAlias = Feature | TowerSpec | RetrievalSpec | Optimizer | Schedule | TrainingSpec

TYPES: dict[str, type] = {
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
    if not isinstance(data, Mapping) or data.get("type") not in TYPES:
        known = ", ".join(TYPES)
        raise SpecError(
            f'a spec needs "type", one of {known}; got {data.get("type") if isinstance(data, Mapping) else data!r}'
        )
    cls = TYPES[data["type"]]
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
