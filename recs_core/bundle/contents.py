"""What the arrays of a bundle's catalog are called, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.bundle.parts import Parts
from recs_core.contract.batch import Codes, Features, Ragged, Sequences
from recs_core.contract.errors import BundleError
from recs_core.contract.messages import one_line
from recs_core.contract.plain import one_chunk
from recs_core.contract.towers import TowerSpec
from recs_core.data.attributes import is_attribute
from recs_core.data.catalog import Catalog
from recs_core.data.schema import Schema
from recs_core.storage.known import FAULTS

Arrays = Mapping[str, NDArray[Any]]


def catalog_arrays(catalog: Catalog) -> dict[str, NDArray[Any]]:
    """`<side>/<feature>` for codes and numbers, `…/values` and `…/offsets` for ragged codes; `seen/…`, with
    `seen/times` where there are times; `counts`; `retired` where somebody is."""
    out: dict[str, NDArray[Any]] = {"counts": np.asarray(catalog.counts, np.int64)}
    if len(catalog.retired):
        out["retired"] = np.asarray(catalog.retired, np.int32)
    _add(out, "seen", catalog.seen)
    if catalog.seen_at is not None:
        out["seen/times"] = np.asarray(catalog.seen_at, np.float64)
    for side, features in (("query", catalog.query), ("candidate", catalog.candidate)):
        for name, codes in features.codes.items():
            _add(out, f"{side}/{name}", codes)
        for name, numbers in features.dense.items():
            out[f"{side}/{name}"] = np.asarray(numbers)
    return out


def catalog_of(
    arrays: Arrays, attributes: pa.Table, schema: Schema, query: TowerSpec, candidate: TowerSpec, path: Path
) -> Catalog:
    """The catalog, with every code checked to be a row there is. Raises `BundleError`."""
    left = dict(arrays)
    corpus = len(schema.candidates)
    counts = _vector(left, "counts", np.int64, corpus, path)
    seen = _ragged(left, "seen", len(schema.queries), corpus, path)
    times = "seen/times" in left
    out = Catalog(
        schema,
        _features(left, "query", query, len(schema.queries), schema, path),
        _features(left, "candidate", candidate, corpus, schema, path),
        seen,
        counts,
        attributes,
        _vector(left, "seen/times", np.float64, len(seen.values), path) if times else None,
        _retired(left, corpus, path),
    )
    for name in left:
        raise BundleError(f"{path}: {name!r} is not of this model")
    if query.reads_time and not times:
        raise BundleError(f"{path}: holds no 'seen/times', and the query tower reads when past candidates were")
    return out


def _retired(left: dict[str, NDArray[Any]], corpus: int, path: Path) -> NDArray[np.int32]:
    """Codes that rise, of which not everybody is one."""
    size = len(left["retired"]) if "retired" in left and left["retired"].ndim else 0
    if "retired" not in left:
        return np.zeros(0, np.int32)
    retired = _within(_vector(left, "retired", np.int32, size, path), corpus, "retired", path)
    if (np.diff(retired) <= 0).any() or len(retired) == corpus:
        raise BundleError(f"{path}: 'retired' must rise, and leave a candidate")
    return retired


def attributes_batch(catalog: Catalog) -> pa.RecordBatch | None:
    """The attributes as stored: without the ids, which the vocabulary has; None where there is nothing else."""
    table = catalog.attributes.drop_columns([catalog.schema.candidate_name])
    if not table.num_columns:
        return None
    return pa.record_batch([one_chunk(column) for column in table.columns], names=table.column_names)


def attributes_of(parts: Parts, schema: Schema) -> pa.Table:
    """The attributes of the corpus, its ids first. Raises `BundleError` for columns that cannot be theirs."""
    ids = pa.table({schema.candidate_name: schema.candidates.ids})
    if "attributes" not in parts.names:
        return ids
    path = parts.path("attributes")

    def check(columns: pa.Schema) -> None:
        for field in columns:
            if [schema.candidate_name, *columns.names].count(field.name) > 1:
                raise BundleError(f"{path}: column {field.name!r} is there twice, or holds the ids")
            if not is_attribute(field.type):
                raise BundleError(f"{path}: column {field.name!r} is {field.type}, of which no filter can be made")

    batch = parts.columns("attributes", check)
    if len(batch) != len(ids):
        raise BundleError(f"{path}: has {len(batch):,} rows, the corpus has {len(ids):,} candidates")
    return pa.table([*ids.columns, *batch.columns], names=[*ids.column_names, *batch.schema.names])


def check_learnt(path: Path, schema: Schema, **towers: TowerSpec) -> None:
    """Raise `BundleError` unless every feature can encode by what it is said to have learned."""
    for side, tower in towers.items():
        for feature in tower.features:
            try:
                feature.check_learnt(schema.learnt.get(f"{side}/{feature.name}", {}))
            except FAULTS as error:
                raise BundleError(f"{path}: {side}/{feature.name}: {one_line(error)}") from error


def _add(out: dict[str, NDArray[Any]], name: str, codes: Codes) -> None:
    if isinstance(codes, Sequences):  # empty: what a query did is kept apart
        return
    if isinstance(codes, Ragged):
        out[f"{name}/values"] = np.asarray(codes.values, np.int32)
        out[f"{name}/offsets"] = codes.offsets
    else:
        out[name] = np.asarray(codes, np.int32)


def _features(
    left: dict[str, NDArray[Any]], side: str, tower: TowerSpec, size: int, schema: Schema, path: Path
) -> Features:
    codes: dict[str, Codes] = {}
    dense: dict[str, NDArray[np.floating]] = {}
    for feature in tower.features:
        if side == "query" and feature.name in schema.context:
            continue
        name = f"{side}/{feature.name}"
        if feature.table_name is None:
            dense[feature.name] = _numbers(left, name, (size, feature.numbers), path)
            continue
        rows = schema.table_rows[feature.table_name]
        if feature.column(side).kind == "sequence":  # type: ignore[arg-type]
            codes[feature.name] = feature.blank(size)  # type: ignore[assignment]
        elif feature.kind == "many":
            codes[feature.name] = _ragged(left, name, size, rows, path)
        else:
            codes[feature.name] = _within(_vector(left, name, np.int32, size, path), rows, name, path)
    return Features(size, codes, dense)


def _vector(left: dict[str, NDArray[Any]], name: str, dtype: Any, size: int, path: Path) -> NDArray[Any]:
    return _array(left, name, dtype, (size,), path)


def _array(left: dict[str, NDArray[Any]], name: str, dtype: Any, shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    if name not in left:
        raise BundleError(f"{path}: {name!r} is missing")
    array = left.pop(name)
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(
            f"{path}: {name!r} is {array.dtype} {list(array.shape)}, the model's is {np.dtype(dtype)} {list(shape)}"
        )
    return array


def _numbers(left: dict[str, NDArray[Any]], name: str, shape: tuple[int, int], path: Path) -> NDArray[np.floating]:
    """As they were encoded: vectors in float16 or float32, all else in float64."""
    kind = left[name].dtype if name in left and left[name].dtype in (np.float16, np.float32) else np.float64
    return _array(left, name, kind, shape, path)


def _ragged(left: dict[str, NDArray[Any]], name: str, size: int, bound: int, path: Path) -> Ragged:
    long = left[f"{name}/offsets"].dtype == np.int64 if f"{name}/offsets" in left else False
    offsets = _vector(left, f"{name}/offsets", np.int64 if long else np.int32, size + 1, path)
    values = _vector(left, f"{name}/values", np.int32, int(offsets[-1]), path)
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
        raise BundleError(f"{path}: '{name}/offsets' must begin at 0 and never fall")
    return Ragged(_within(values, bound, f"{name}/values", path), offsets)


def _within(codes: NDArray[np.int32], bound: int, name: str, path: Path) -> NDArray[np.int32]:
    if len(codes) and not (codes.min() >= 0 and codes.max() < bound):
        raise BundleError(f"{path}: {name!r} holds codes outside 0 … {bound - 1}")
    return codes
