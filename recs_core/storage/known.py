"""JSON → dataclasses: fields that a class does not know are ignored, so that a later version can add one; what it does
know must be there and of its type. Every manifest is read through here and nowhere else."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from recs_core.contract.errors import BundleError, RecsError

T = TypeVar("T")

Count = Annotated[int, "count"]
"""A whole number, 0 … 2⁶³ − 1."""

FAULTS = (RecsError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What code that trusts its arguments raises for JSON that means nothing."""


def known(cls: type[T], data: Any, where: str) -> T:
    """A dataclass of its own fields in `data`; others are ignored.

    Fields are of str, bool, int, float, `Count`, `Literal`, `Any`, None, dataclasses, and unions, mappings and tuples
    of these. Raises `BundleError`, as "<where>, run, until: …", for one that is missing and has no default, or of
    another type.
    """
    if not isinstance(data, Mapping):
        raise _wrong(where, "an object", data)
    hints = _hints(cls)  # type: ignore[arg-type]  # a class has a hash
    given: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]
        name = field.name.removesuffix("_")  # `from` is Python's own word
        if name in data:
            given[field.name] = _read(hints[field.name], data[name], f"{where}, {name}")
        elif _needed(field):
            raise BundleError(f"{where}: has no {name}")
    return cls(**given)


@cache
def _hints(cls: type) -> dict[str, Any]:
    """What each field of a dataclass is of; evaluating the annotations takes longer than reading by them."""
    return get_type_hints(cls, include_extras=True)


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`, or `BundleError`."""
    if kind is Any:
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return known(kind, value, where)
    if kind is Count:
        if type(value) is int and 0 <= value < 2**63:
            return value
        raise _wrong(where, "a whole number, 0 … 2⁶³ − 1", value)
    if kind is float:
        return _number(value, where)
    if kind in (str, bool, int, types.NoneType):
        if type(value) is kind:
            return value
        names = {str: "text", bool: "true or false", int: "a whole number", types.NoneType: "null"}
        raise _wrong(where, names[kind], value)
    return _composed(get_origin(kind), get_args(kind), value, where)


def _composed(origin: Any, inside: tuple[Any, ...], value: Any, where: str) -> Any:
    if origin is Literal:
        if isinstance(value, str) and value in inside:
            return value
        raise _wrong(where, " or ".join(map(repr, inside)), value)
    if origin in (Union, types.UnionType):
        return _one_of(inside, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong(where, "a list", value)
        each = [inside[0]] * len(value) if inside[-1] is Ellipsis else list(inside)
        if len(each) != len(value):
            raise _wrong(where, f"a list of {len(each)}", value)
        return tuple(_read(kind, item, f"{where}, {i}") for i, (kind, item) in enumerate(zip(each, value, strict=True)))
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    return {_read(inside[0], name, where): _read(inside[1], item, f"{where}, {name}") for name, item in value.items()}


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The first kind that fits; where none does, the error is the last's, with null left out."""
    if value is None and types.NoneType in kinds:
        return None
    *others, last = [kind for kind in kinds if kind is not types.NoneType]
    for kind in others:
        try:
            return _read(kind, value, where)
        except BundleError:
            continue
    return _read(last, value, where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise _wrong(where, "a finite number", value)


def _wrong(where: str, due: str, value: Any) -> BundleError:
    text = "null" if value is None else repr(value)
    return BundleError(f"{where}: must be {due}, got {text if len(text) <= 60 else text[:59] + '…'}")
