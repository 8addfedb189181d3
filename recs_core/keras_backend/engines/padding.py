"""Padding for an engine that compiles by shape: the same sums over longer arrays.

So batches of about one size, and the last, smaller one of an epoch, share their compiled programs.

What an array is padded to depends on its batch alone, never on earlier ones, or a resumed run would differ in the last
bit. Sizes that a plan settles (queries, candidates) are padded by a quarter at most; those that every batch has anew
(codes of a history, targets in a block, masked pairs) to a power of two or four, of which a training meets one or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.task import MASKED
from recs_core.keras_backend.engines import Full, Tree

SMALL = 64
"""Up to here a power of two pads little enough."""


def bucket(size: int) -> int:
    """The next of 16, 32, 64, 80, 96, 112, 128, 160, …: four sizes per octave, at most a quarter of padding."""
    if size <= SMALL:
        return power(size)
    step = 1 << ((size - 1).bit_length() - 3)
    return -(-size // step) * step


def power(size: int) -> int:
    """The next power of two, from 16 on."""
    return max(16, 1 << (size - 1).bit_length())


def power_of_four(size: int) -> int:
    """The next of 16, 64, 256, …: for masked pairs, which cost little and whose number varies most."""
    return 1 << -(-(power(size).bit_length() - 1) // 2) * 2


def pad(
    inputs: Tree, full: Full, tables: Mapping[Side, Mapping[str, str]], totals: Mapping[str, int]
) -> dict[str, Any]:
    """The inputs of a step, padded to those of a full batch.

    `tables`: of each side, column → table. `totals`: rows of each weight; `rows` are padded with them, rows that no
    weight has: a gather clips them and a scatter drops them. Padded codes are 0, but nothing reads what they look up:
    their queries have no target, and their columns are masked.
    """
    queries, candidates = bucket(full.queries), bucket(full.candidates)
    out: dict[str, Any] = {
        **inputs,
        "query": pad_features(inputs["query"], queries, full.growth),
        "candidate": pad_features(inputs["candidate"], candidates, full.growth),
    }
    most = {"task/bias": candidates}
    for side, of in tables.items():
        for column, table in of.items():
            codes = out[side]["codes"][column]
            if isinstance(codes, Mapping):
                codes = codes["codes"] if "start" in codes else codes["values"]
            most[table] = most.get(table, 0) + codes.size
    out["rows"] = {
        name: _fill(rows, max(len(rows), min(most[name], totals[name])), totals[name])
        for name, rows in inputs["rows"].items()
    }
    if "bias_codes" in inputs:
        out["bias_codes"] = _fill(inputs["bias_codes"], candidates, 0)
    out["task"] = pad_kernel(inputs["task"], full)
    return out


def pad_kernel(plan: Tree, full: Full) -> dict[str, Any]:
    """The plan, padded to that of a full batch."""
    number, candidates = len(plan["add"]), bucket(full.candidates)
    index = plan["columns"].get("index")
    all_columns = index is None or not index[:1].any()
    rows = full.rows(int(plan["num_rows"]), "query" in plan["rows"])
    out = pad_task(plan, rows, candidates if all_columns else bucket(number), full.targets, full.growth)
    if "bias" in plan["at"]:
        out["at"] = {**plan["at"], "bias": _fill(plan["at"]["bias"], candidates, 0)}
    return out


def pad_at(at: Tree, full: Full) -> dict[str, Any]:
    """What the kernel reads, padded."""
    sizes = {"query": full.queries, "candidate": full.candidates, "bias": full.candidates}
    return {name: _fill(np.asarray(x), bucket(sizes[name]), 0) if name in sizes else x for name, x in at.items()}


def pad_features(features: Tree, size: int, growth: float = 1.0) -> dict[str, Any]:
    """A tower's inputs for `size` rows. `growth`: how many times its codes a full batch has."""
    codes: dict[str, Any] = {}
    for name, value in features["codes"].items():
        if not isinstance(value, Mapping):
            codes[name] = _fill(value, size, 0)
            continue
        if "start" in value:
            codes[name] = _pad_lanes(value, size, growth)
            continue
        codes[name] = {"values": _fill(value["values"], power(round(len(value["values"]) * growth)), 0)}
        if "offsets" in value:
            codes[name]["offsets"] = _fill(value["offsets"], size + 1, value["offsets"][-1])
        else:
            beyond = size  # the last row: a sum drops it
            codes[name]["segments"] = _fill(value["segments"], len(codes[name]["values"]), beyond)
            codes[name]["scale"] = _fill(value["scale"], size, 0)
    out: dict[str, Any] = {
        "codes": codes,
        "dense": {name: _fill(numbers, size, 0) for name, numbers in features["dense"].items()},
    }
    if "keep" in features:
        out["keep"] = _fill(features["keep"], size, 0)
    return out


def _pad_lanes(lanes: Tree, size: int, growth: float) -> dict[str, Any]:
    """Histories in lanes, for `size` rows: empty lanes more, of which nobody reads a place. Few are 1, 4 or 16."""
    number = round(len(lanes["codes"]) * growth)
    number = bucket(number) if number > 16 else next(few for few in (1, 4, 16) if number <= few)
    return {
        "codes": _fill(lanes["codes"], number, 0),
        "start": _fill(lanes["start"], number, 0),
        "at": _fill(lanes["at"], size, -1),
        "keep": {name: _fill(mask, number, False) for name, mask in lanes["keep"].items()},
        **({"buckets": _fill(lanes["buckets"], number, 0)} if "buckets" in lanes else {}),
    }


def pad_task(plan: Tree, count: int, negatives: int, targets: int = 0, growth: float = 1.0) -> dict[str, Any]:
    """The plan with blocks of one size for `count` rows, windows of one length, and padded columns masked by their
    correction."""
    number = int(plan["num_rows"])
    size = min(int(plan["block"]), bucket(count))
    blocks = -(-bucket(count) // size)
    rows = {name: _fill(value, blocks * size, 0) for name, value in plan["rows"].items()}
    if "query" not in rows:
        rows["query"] = _fill(np.arange(number, dtype=np.int32), blocks * size, 0)
    if "keep" in rows:
        rows["keep"] = _fill(rows["keep"].T, negatives, 0).T
    out: dict[str, Any] = {
        **{name: value for name, value in plan.items() if name not in ("ends", "block", "num_rows")},
        "rows": rows,
        "columns": {name: _fill(value, negatives, 0) for name, value in plan["columns"].items()},
        "add": _fill(plan["add"], negatives, MASKED),
        "blocks": np.zeros(blocks, np.bool_),
    }
    usual = targets if blocks == 1 else targets * 5 // (4 * blocks)  # targets in a block
    lengths = {kind: np.diff(ends) for kind, ends in plan["ends"].items()}
    one_each = (lengths["targets"] == np.diff(np.append(np.arange(0, number, size), number))).all()
    for kind, fill in (("targets", 0), ("masked", size)):  # a masked entry of row `size` is dropped
        out[kind] = {}
        if kind in lengths:
            longest = int(lengths[kind].max(initial=0))
            if kind == "masked":
                width = power_of_four(round(longest * growth))
            else:
                width = size if one_each else power(max(longest, usual))
            out[kind] = _windows(plan[kind], lengths[kind], blocks, width, fill)
    return out


def _windows(arrays: Tree, lengths: NDArray[np.integer], blocks: int, width: int, fill: int) -> dict[str, NDArray[Any]]:
    """Each array cut into blocks of so many entries, every block filled up to `width`, joined again."""
    starts = np.arange(len(lengths)) * width - (np.cumsum(lengths) - lengths)
    place = np.arange(lengths.sum()) + np.repeat(starts, lengths)
    out: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        out[name] = np.full(blocks * width, fill if name == "row" else 0, array.dtype)
        out[name][place] = array
    return out


def _fill(array: NDArray[Any], size: int, value: float) -> NDArray[Any]:
    """`array` with its first axis filled up to `size`."""
    out = np.full((size, *array.shape[1:]), value, array.dtype)
    out[: len(array)] = array
    return out
