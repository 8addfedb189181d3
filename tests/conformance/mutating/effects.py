"""What a mutant's code calls: values made narrower, cut, kept from an earlier call, or given out of one buffer.

Values are arrays, numbers, and tuples, lists, dicts and dataclasses of them. `touched` is set once an effect has seen
a value that it is about, whether it changed it or not: an effect that never does is no mutant. `SEEN`: what functions
returned. `CALLED`: those that were called since it was last cleared.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

touched = False
SEEN: dict[tuple[str, str, str], set[str]] = {}
CALLED: set[tuple[str, str, str]] = set()

Function = Callable[..., Any]


def _touch() -> None:
    global touched  # noqa: PLW0603
    touched = True


def mapped(value: Any, change: Callable[[np.ndarray], Any]) -> Any:
    """`value` with every array and NumPy number in it changed."""
    if isinstance(value, (np.ndarray, np.generic, float)):
        changed = change(np.asarray(value))
        return changed if isinstance(value, np.ndarray) else type(value)(changed)
    if type(value) in (tuple, list):
        return type(value)(mapped(item, change) for item in value)
    if type(value) is dict:
        return {name: mapped(item, change) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **{name: mapped(item, change) for name, item in fields.items()})
    return value


def narrow(value: Any, dtype: str) -> Any:
    """Numbers of a wider type of the same kind, by way of `dtype`."""
    to = np.dtype(dtype)

    def change(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != to.kind or array.dtype.itemsize <= to.itemsize:
            return array
        _touch()
        with np.errstate(over="ignore"):
            return array.astype(to).astype(array.dtype)

    return mapped(value, change)


def narrowed(dtype: str) -> Callable[[Function], Function]:
    """A decorator: the result, narrowed."""
    return lambda function: _after(function, lambda value: narrow(value, dtype))


def within(low: float, high: float) -> Callable[[Function], Function]:
    """A decorator: floating numbers above `high` in size become that, those below `low` become 0; ± inf stays."""

    def change(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            return array
        _touch()
        size = np.abs(array)
        out = np.where(np.isfinite(array), np.clip(array, -high, high), array)
        return np.where(size < low, 0, out).astype(array.dtype)

    return lambda function: _after(function, lambda value: mapped(value, change))


def wrapped(axis: int, limit: int) -> Callable[[Function], Function]:
    """A decorator: along an axis longer than `limit`, what is beyond is what stands `limit` before it."""

    def change(array: np.ndarray) -> np.ndarray:
        if array.ndim <= axis:
            return array
        _touch()
        size = array.shape[axis]
        return np.take(array, np.arange(size) % limit, axis) if size > limit else array

    return lambda function: _after(function, lambda value: mapped(value, change))


def block_end(axis: int, size: int) -> Callable[[Function], Function]:
    """A decorator: along an axis, the last of every whole block of `size` is as the one before it."""

    def change(array: np.ndarray) -> np.ndarray:
        if array.ndim <= axis:
            return array
        _touch()
        places = np.arange(array.shape[axis])
        return np.take(array, places - (places % size == size - 1), axis) if len(places) >= size else array

    return lambda function: _after(function, lambda value: mapped(value, change))


def stale(function: Function) -> Function:
    """A decorator: the result of the first call, as long as arguments are of the same shapes."""
    results: dict[Any, Any] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        _touch()
        key = (_shape(args), _shape(kwargs))
        if key not in results:
            results[key] = function(*args, **kwargs)
        return copy.copy(results[key])

    return call


def stale_by_identity(function: Function) -> Function:
    """A decorator: the result of the first call, as long as the arguments are the very same objects."""
    results: dict[Any, Any] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        _touch()
        everything = (*args, *kwargs.values())
        key = tuple(item if isinstance(item, (str, int, float, type(None))) else id(item) for item in everything)
        if key not in results:
            results[key] = function(*args, **kwargs), everything  # kept, so that no other object takes their place
        return copy.copy(results[key][0])

    return call


def buffered(function: Function) -> Function:
    """A decorator: arrays of the result lie in one buffer per shape, which the next call writes over."""
    buffers: dict[Any, np.ndarray] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        count = 0

        def change(array: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            if array.ndim == 0:
                return array
            _touch()
            buffer = buffers.setdefault((count, array.shape, array.dtype), np.empty_like(array))
            buffer[...] = array
            return buffer

        return mapped(function(*args, **kwargs), change)

    return call


def noted(value: Any, key: tuple[str, str, str]) -> Any:
    """`value`, and in `SEEN` which arrays and numbers are in it: "f64 2" and so on, the type and the number of axes."""

    def change(array: np.ndarray) -> np.ndarray:
        SEEN.setdefault(key, set()).add(f"{array.dtype.kind}{array.dtype.itemsize * 8} {array.ndim}")
        return array

    mapped(value, change)
    return value


def recorded(key: tuple[str, str, str]) -> Callable[[Function], Function]:
    """A decorator that changes nothing: it notes what comes back, and that it was called."""
    seen = SEEN.setdefault(key, set())

    def after(value: Any) -> Any:
        seen.add("called")
        CALLED.add(key)
        return noted(value, key)

    return lambda function: _after(function, after)


def _after(function: Function, change: Callable[[Any], Any]) -> Function:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return change(function(*args, **kwargs))

    return call


def _shape(value: Any) -> Any:
    """What is left of a value where its numbers do not count."""
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype)
    if isinstance(value, (float, np.generic)):
        return type(value).__name__
    if isinstance(value, (str, int, type(None))):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(_shape(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, _shape(item)) for name, item in sorted(value.items(), key=lambda pair: str(pair[0])))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, tuple(_shape(getattr(value, f.name)) for f in dataclasses.fields(value))
    return id(value)
