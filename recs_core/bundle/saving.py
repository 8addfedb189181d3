"""A fitted model → a bundle."""

from __future__ import annotations

import contextlib
import logging
import math
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.bundle.card import card
from recs_core.bundle.contents import attributes_batch, catalog_arrays
from recs_core.bundle.golden import Towers, bound, record
from recs_core.bundle.progress import arrays_of, fields_of, losses_of
from recs_core.bundle.shares import Share
from recs_core.bundle.stated import IndexStated, SchemaFiles, of_fields
from recs_core.contract.as_json import to_json
from recs_core.contract.errors import BundleError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.schema import Schema
from recs_core.fitted import Fitted, Progress
from recs_core.index.made import Made
from recs_core.storage import manifest, tensors
from recs_core.storage.commit import Commit, committing
from recs_core.storage.paths import local
from recs_core.tables import arrow_files, id_files
from recs_core.training import Position, TrainingHistory
from recs_core.version import __version__, installed

log = logging.getLogger("recs_core")

Metrics = Mapping[str, "float | tuple[float, float, float]"]


def save(
    fitted: Fitted,
    path: str | Path,
    *,
    towers: Towers,
    metrics: Metrics | None = None,
    licence: str | None = None,
    shares: Sequence[Share] = (),
) -> Path:
    """Write a fitted model to a folder that any backend, or none, can load; the folder.

    A folder that holds a bundle is replaced: a reader, or a crash, sees the old one or the new one. `towers`: those of
    the model, which answer the golden queries; where they hold the corpus' vectors these are stored too, so that the
    NumPy runtime need not run the candidate tower to serve. `metrics` and `licence` (text) are for the model card:
    name → finite number, or (value, low, high) of an interval. `shares`: what several workers have written of it to the
    folder, in place of the weights here and where training stands.

    Raises `BundleError` if the folder is a URL, is no bundle and not empty, cannot be written, or the model, `metrics`
    or `licence` cannot be saved. A card that cannot be written is a warning, and so is an index of the bundle that is
    replaced: it was of other vectors, and is gone.
    """
    folder = local(path, "save", BundleError)
    said = {"metrics": _metrics({} if metrics is None else metrics, "save"), "licence": _licence(licence, "save")}
    with committing(folder) as commit:
        index = _index_of(folder)
        fields = _write(commit, fitted, towers, shares)
        _finish(commit, {**fields, **said, "files": commit.files})
    if index is not None:
        log.warning(
            "%s: the bundle that was replaced held the index %s, of its own vectors, and this one holds none; "
            "`recs index build %s --index %s` builds one of these",
            *(folder, index, shlex.quote(str(folder)), index),
        )
    return folder


def _index_of(folder: Path) -> str | None:
    """The index that the bundle in a folder holds, if there is one and it can be read."""
    with contextlib.suppress(BundleError):
        held = manifest.read(folder)[1].get("index")
        return str(held["spec"]) if isinstance(held, dict) and "spec" in held else None
    return None


def describe(path: str | Path, *, metrics: Metrics | None = None, licence: str | None = None) -> Path:
    """Put metrics or a licence, as in `save`, on a bundle that is there: a new manifest and card, the same data files.

    Raises `BundleError` if the folder holds no bundle or cannot be written, for `metrics` and `licence` as in `save`.
    """
    folder = local(path, "describe", BundleError)
    said: dict[str, Any] = {} if metrics is None else {"metrics": _metrics(metrics, "describe")}
    if licence is not None:
        said["licence"] = _licence(licence, "describe")
    manifest.read(folder)  # a folder that is no bundle stays as it is
    with committing(folder) as commit:
        fields = {**manifest.read(folder)[1], **said}
        _finish(commit, {name: value for name, value in fields.items() if name not in manifest.OWN})
    return folder


def keep_index(path: str | Path, made: Made, stated: IndexStated, vectors: NDArray[np.floating]) -> Path:
    """Put what an index made of `vectors`, the corpus', in a bundle that is there, in place of one that it holds.

    The vectors are stored too where they are not: they are what the index finds. Raises `BundleError` if the folder
    holds no bundle or cannot be written.
    """
    folder = local(path, "keep_index", BundleError)
    manifest.read(folder)  # a folder that is no bundle stays as it is
    tensors.check_dtypes(folder, made.parts)
    with committing(folder) as commit:
        fields = {name: value for name, value in manifest.read(folder)[1].items() if name not in manifest.OWN}
        contents, files = dict(fields["contents"]), dict(fields["files"])
        files.pop(contents.pop("index", ""), None)
        if "vectors" not in contents:
            contents["vectors"] = _arrays(commit, "vectors", {"vectors": vectors})
        contents["index"] = _arrays(commit, "index", made.parts)
        _finish(commit, {**fields, "contents": contents, "index": asdict(stated), "files": {**files, **commit.files}})
    return folder


def _finish(commit: Commit, fields: dict[str, Any]) -> None:
    """Commit; what is written is read as `load` reads it first."""
    text = card(of_fields(commit.folder, fields), commit.folder.name).encode("utf-8", "replace")
    fields["card"] = {"length": len(text), "sha256": sha256(text).hexdigest()}
    commit.finish(manifest.encode(commit.folder, fields), text)


def _metrics(metrics: Any, asks: str) -> dict[str, Any]:
    """As JSON. Raises `BundleError` naming the metric that is no finite number, nor three of them."""
    if not isinstance(metrics, Mapping):
        raise BundleError(f"{asks}: metrics are name → number, got {metrics!r}")
    out: dict[str, Any] = {}
    for name, value in metrics.items():
        several = isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)
        numbers = list(value) if several else [value]
        if not isinstance(name, str) or len(numbers) not in ((3,) if several else (1,)):
            raise BundleError(f"{asks}: metrics are name → number or (value, low, high), got {name!r}: {value!r}")
        found = [_number(number) for number in numbers]
        if None in found:
            raise BundleError(f"{asks}: metric {name!r} must be finite numbers, got {value!r}; leave it out")
        out[name] = found if several else found[0]
    return out


def _number(value: Any) -> float | None:
    """A Python float of a real scalar; None for anything else, NaN and infinity included."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _licence(licence: Any, asks: str) -> str | None:
    if licence is not None and not isinstance(licence, str):
        raise BundleError(f"{asks}: licence is text, as in 'CC-BY-4.0', or None; got {licence!r}")
    return licence


def _write(commit: Commit, fitted: Fitted, towers: Towers, shares: Sequence[Share]) -> dict[str, Any]:
    """Write the data files; the manifest's fields."""
    progress = fitted.progress or Progress(Position(), TrainingHistory())
    parts = _taken_up(commit, shares) if shares else _written(commit, fitted)
    schema = _schema(commit, fitted.catalog.schema)
    if towers.corpus is not None:
        parts["vectors"] = _arrays(commit, "vectors", {"vectors": towers.corpus})
    parts["catalog"] = _arrays(commit, "catalog", catalog_arrays(fitted.catalog))
    attributes = attributes_batch(fitted.catalog)
    if attributes is not None:
        parts["attributes"] = commit.add("attributes", "arrow", [arrow_files.content(attributes)])
    ids = bound({role: str(commit.files[file]["sha256"]) for role, file in schema.id_files.items()})
    asked = record(fitted, replace(towers, corpus=None))
    parts["golden"] = _arrays(commit, "golden", {**asked.arrays(), **ids})
    parts["history"] = _arrays(commit, "history", losses_of(progress))
    command = shlex.join(sys.argv).encode("utf-8", "replace").decode()  # arguments may be any bytes
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": _declared(fitted),
        "schema": asdict(schema),
        "contents": parts,
        **fields_of(progress),
        "provenance": {"data": fitted.facts, "versions": _versions(fitted), "command": command},
    }


def _written(commit: Commit, fitted: Fitted) -> dict[str, Any]:
    """Part → the file with its arrays."""
    tensors.check_dtypes(commit.folder, fitted.weights)
    tensors.check_finite(commit.folder, fitted.weights)
    return {part: _arrays(commit, part, arrays) for part, arrays in arrays_of(fitted).items()}


def _taken_up(commit: Commit, shares: Sequence[Share]) -> dict[str, Any]:
    """Part → the files that workers wrote of it."""
    for share in shares:
        commit.files |= {name: dict(facts) for name, facts in share.files.items()}
    return {part: [share.parts[part] for share in shares] for part in shares[0].parts}


def _arrays(commit: Commit, part: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    return commit.add(part, "safetensors", tensors.pieces(arrays))


def _declared(fitted: Fitted) -> dict[str, Any]:
    specs = ("query", "candidate", "retrieval", "optimizer", "training")
    declared = fitted.declared
    out = {**{name: to_json(getattr(declared, name)) for name in specs}, "seed": declared.seed, "dtype": declared.dtype}
    natives = {side: asdict(native) for side, native in fitted.natives.items()}
    return {**out, "native": natives} if natives else out


def _schema(commit: Commit, schema: Schema) -> SchemaFiles:
    """Vocabularies with the same ids share a file, as a corpus and the table of its ids usually do."""

    def stored(vocabulary: Vocabulary) -> str:
        return commit.add("ids", "arrow", [id_files.content(vocabulary)])

    return SchemaFiles(
        query_name=schema.query_name,
        candidate_name=schema.candidate_name,
        queries=stored(schema.queries),
        candidates=stored(schema.candidates),
        vocabularies={name: stored(vocabulary) for name, vocabulary in schema.vocabularies.items()},
        learnt={name: dict(state) for name, state in schema.learnt.items()},
        table_rows=dict(schema.table_rows),
        context=schema.context,
        time_name=schema.time_name,
    )


def _versions(fitted: Fitted) -> dict[str, str]:
    """Of everything that had a hand in the numbers."""
    ours = {"recs_core": __version__, "python": platform.python_version()}
    machine = f"{platform.system()} {platform.machine()}"
    return {**ours, **installed(("numpy", "pyarrow")), **fitted.versions, "machine": machine}
