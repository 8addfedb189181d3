"""Digests of weights and batches, by which runs in different processes are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged, Sequences

Arrays = dict[str, NDArray[Any]]


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    sha = sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {value.dtype} {value.shape}\n".encode())
        sha.update(value.tobytes())
    return sha.hexdigest()


def batch_arrays(batch: Batch) -> Arrays:
    """Every array of a batch under a name of its own."""
    out: Arrays = {f"rows/{name}": rows for name, rows in batch.rows.items()}
    for side, features in (("query", batch.query), ("candidate", batch.candidate)):
        out |= _feature_arrays(side, features)
    for name, value in batch.task.items():
        out |= _flat(f"task/{name}", value)
    return out


def _feature_arrays(side: str, features: Features) -> Arrays:
    out: Arrays = {f"{side}/dense/{name}": value for name, value in features.dense.items()}
    for name, codes in features.codes.items():
        out |= _flat(f"{side}/codes/{name}", codes)
    if features.keep is not None:
        out[f"{side}/keep"] = features.keep
    return out


def _flat(name: str, value: Any) -> Arrays:
    if isinstance(value, Ragged):
        return {f"{name}/values": value.values, f"{name}/offsets": value.offsets}
    if isinstance(value, Sequences):
        held: dict[str, Any] = {"at": value.at, "times": value.times, "asked": value.asked}
        held |= {f"keep/{part}": mask for part, mask in value.keep.items()}
        return _flat(name, value.codes) | {f"{name}/{part}": x for part, x in held.items() if x is not None}
    return {} if value is None else {name: np.asarray(value)}
