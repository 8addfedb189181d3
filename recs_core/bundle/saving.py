"""A fitted model → a bundle."""

from __future__ import annotations

import math
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recs_core import __version__
from recs_core.bundle import manifest
from recs_core.bundle.card import card
from recs_core.bundle.contents import catalog_arrays
from recs_core.bundle.golden import Asked, bound, record
from recs_core.bundle.natives import Native
from recs_core.bundle.stated import of_fields
from recs_core.contract.as_json import to_json
from recs_core.contract.errors import BundleError
from recs_core.data.catalog import Catalog
from recs_core.data.schema import Schema
from recs_core.storage import id_files as ids
from recs_core.storage import tensors
from recs_core.storage.files import Commit, committing
from recs_core.storage.paths import local
from recs_core.training import FitRun

if TYPE_CHECKING:
    from recs_core.recommender import Recommender

Metrics = Mapping[str, "float | tuple[float, float, float]"]


def save(
    model: Recommender,
    path: str | Path,
    *,
    include_state: bool = True,
    include_vectors: bool = False,
    metrics: Metrics | None = None,
    licence: str | None = None,
) -> Path:
    """Write a model to a folder that any backend, or none, can load; the folder.

    A folder that holds a bundle is replaced: a reader, or a crash, sees the old one or the new one. `include_state`:
    optimizer state and training position, so that training can go on (Adam triples the size). `include_vectors`: the
    corpus as the exact index holds it, so that the NumPy runtime need not run the candidate tower to serve. `metrics`
    and `licence` (text) are for the model card: name → finite number, or (value, low, high) of an interval.

    Raises `NotFitted` before `fit`, and `BundleError` if the folder is a URL, is no bundle and not empty, cannot be
    written, or the model, `metrics` or `licence` cannot be saved. A card that cannot be written is a warning.
    """
    from recs_core.two_tower import TwoTower

    folder = local(path, "save", BundleError)
    if not isinstance(model, TwoTower):
        raise BundleError(
            f"{folder}: a model loaded with runtime='numpy' is read-only; copy its bundle, or load it with a backend"
        )
    said = {"metrics": _metrics({} if metrics is None else metrics, "save"), "licence": _licence(licence, "save")}
    catalog = model.catalog  # raises `NotFitted` before a folder is made
    with committing(folder) as commit:
        fields = _write(commit, model, catalog, include_state, include_vectors)
        _finish(commit, {**fields, **said, "files": commit.files})
    return folder


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


def _write(commit: Commit, model: Any, catalog: Catalog, include_state: bool, include_vectors: bool) -> dict[str, Any]:
    """Write the data files; the manifest's fields. One set of weights is held at a time."""
    weights = model.weights()
    tensors.check_dtypes(commit.folder, weights)
    tensors.check_finite(commit.folder, weights)
    parts = {"weights": commit.add("weights", "safetensors", tensors.pieces(weights))}
    schema = _schema(commit, catalog.schema)
    asked = Asked(catalog, model.query, model.retrieval, model.query_tower, model.candidate_tower, weights)
    golden = record(asked)
    del weights, asked
    if include_vectors:
        vectors = model.encode_candidate().astype(model.dtype, copy=False)
        parts["vectors"] = commit.add("vectors", "safetensors", tensors.pieces({"vectors": vectors}))
    parts["catalog"] = commit.add("catalog", "safetensors", tensors.pieces(catalog_arrays(catalog)))
    ids_of = {"queries": schema["queries"], "candidates": schema["candidates"], **schema["vocabularies"]}
    bound_ids = bound({name: str(commit.files[file]["sha256"]) for name, file in ids_of.items()})
    parts["golden"] = commit.add("golden", "safetensors", tensors.pieces({**golden.arrays(), **bound_ids}))
    losses = np.asarray(model.history.losses, np.float64)
    parts["history"] = commit.add("history", "safetensors", tensors.pieces({"losses": losses}))
    trainer, run = model._trainer, model.run
    if include_state and trainer is not None:
        state = {name: np.asarray(value) for name, value in trainer.state().items()}
        parts["state"] = commit.add("state", "safetensors", tensors.pieces(state))
        if run is not None and run.open and run.best.weights:
            parts["best"] = commit.add("best", "safetensors", tensors.pieces(run.best.weights))
    command = shlex.join(sys.argv).encode("utf-8", "replace").decode()  # arguments may be any bytes
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": _declared(model),
        "schema": schema,
        "contents": parts,
        "position": asdict(model.position),
        "run": None if run is None else {**_run(run), "open": run.open and "state" in parts},
        "history": {name: value for name, value in asdict(model.history).items() if name != "losses"},
        "provenance": {"data": model.data, "versions": _versions(model), "command": command},
    }


def _declared(model: Any) -> dict[str, Any]:
    specs = ("query", "candidate", "retrieval", "optimizer", "training")
    declared = {**{name: to_json(getattr(model, name)) for name in specs}, "seed": model.seed, "dtype": model.dtype}
    towers = {"query": model.query_tower, "candidate": model.candidate_tower}
    natives = {
        side: Native.of(adopted, model.backend.info.name, towers[side].output_dim).to_json()
        for side, adopted in model._adopted.items()
    }
    return {**declared, "native": natives} if natives else declared


def _schema(commit: Commit, schema: Schema) -> dict[str, Any]:
    """Vocabularies with the same ids share a file, as a corpus and the table of its ids usually do."""

    def stored(vocabulary: Any) -> str:
        return commit.add("ids", "arrow", [ids.content(vocabulary)])

    return {
        "query_name": schema.query_name,
        "candidate_name": schema.candidate_name,
        "queries": stored(schema.queries),
        "candidates": stored(schema.candidates),
        "vocabularies": {name: stored(vocabulary) for name, vocabulary in schema.vocabularies.items()},
        "learnt": {name: dict(state) for name, state in schema.learnt.items()},
        "table_rows": dict(schema.table_rows),
    }


def _run(run: FitRun) -> dict[str, Any]:
    best = run.best
    return {
        "settings": to_json(run.settings),
        "until": run.until,
        "data": run.data,
        "validate_every": run.validate_every,
        "k": list(run.k),
        "early_stopping": None if best.rule is None else asdict(best.rule),
        "best": {"value": best.value, "epoch": best.epoch, "waited": best.waited},
    }


def _versions(model: Any) -> dict[str, str]:
    """Of everything that had a hand in the numbers."""
    import importlib.metadata

    names = dict.fromkeys(("numpy", "pyarrow", *model.backend.info.requires))
    found = {"recs_core": __version__, "python": platform.python_version(), "backend": model.backend_name}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an import name that differs from the distribution's
    return {**found, "machine": f"{platform.system()} {platform.machine()}"}
