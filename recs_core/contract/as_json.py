"""Declarations as plain JSON data, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from recs_core.contract.encoders import GRU, Encoder, SelfAttention
from recs_core.contract.errors import SpecError
from recs_core.contract.feature_kinds import FEATURES
from recs_core.contract.features import Feature
from recs_core.contract.optimizers import OPTIMIZERS, Optimizer
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import Schedule, TrainingSpec

Custom: TypeAlias = "type[Feature] | type[Optimizer]"
Spec: TypeAlias = Feature | Encoder | TowerSpec | RetrievalSpec | Optimizer | Schedule | TrainingSpec

TYPES: Mapping[str, type] = {
    cls.__name__: cls
    for cls in (*FEATURES, GRU, SelfAttention, TowerSpec, RetrievalSpec, *OPTIMIZERS, Schedule, TrainingSpec)
}
"""The classes that recs-core brings, by name."""


def to_json(spec: Spec) -> dict[str, Any]:
    """The spec as plain JSON data; `type` names its class."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return to_json(value)  # type: ignore[arg-type]
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    fields = {f.name: plain(getattr(spec, f.name)) for f in dataclasses.fields(spec)}
    return {"type": type(spec).__name__, **fields}


def from_json(data: Mapping[str, Any] | str, *, custom: Sequence[Custom] = (), strict: bool = True) -> Any:
    """The spec that `to_json` wrote.

    `custom`: classes of the caller's own that it may name; nothing that the data names is imported. `strict`:
    an unknown field is an error, and else ignored, as a later version may have added it. Raises `SpecError`.
    """
    if isinstance(data, str):
        data = json.loads(data)
    types = _types(custom)
    if not isinstance(data, Mapping):
        raise SpecError(_unknown(data, types))
    name = data.get("type")
    if not isinstance(name, str) or name not in types:
        raise SpecError(_unknown(name, types))
    cls = types[name]
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known - {"type"})
    if unknown and strict:
        raise SpecError(f"{name} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")

    def built(value: Any) -> Any:
        if isinstance(value, Mapping):
            return from_json(value, custom=custom, strict=strict)
        return [built(item) for item in value] if isinstance(value, list) else value

    try:
        return cls(**{field: built(value) for field, value in data.items() if field in known})
    except TypeError as error:
        raise SpecError(f"{name}: {error}") from error


def _types(custom: Sequence[Custom]) -> dict[str, type]:
    types = dict(TYPES)
    for cls in custom:
        if not isinstance(cls, type) or not issubclass(cls, (Feature, Optimizer)) or not dataclasses.is_dataclass(cls):
            raise SpecError(
                f"custom: {cls!r} is no class of a feature or an optimizer; write a frozen dataclass that extends "
                "recs.Feature or recs.Optimizer"
            )
        if cls.__name__ in TYPES:
            raise SpecError(f"custom: {cls.__qualname__} has the name of a class that recs-core brings; rename it")
        types[cls.__name__] = cls
    return types


def _unknown(name: Any, types: Mapping[str, type]) -> str:
    if isinstance(name, str) and name.isidentifier():
        return f"{name} is no class of recs-core; if it is your own, hand it over: custom=[{name}]"
    return f'a spec needs "type", one of {", ".join(types)}; got {name!r}'
