"""A bundle → a model: on a backend, or on NumPy alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recs_core import weights as canonical
from recs_core.bundle import golden, ids, manifest, natives, tensors
from recs_core.bundle.contents import catalog_of, check_numeric, state_shapes
from recs_core.bundle.files import CARD, MANIFEST, check_digest, is_as_written, mapped, others
from recs_core.bundle.known import FAULTS
from recs_core.bundle.natives import Native
from recs_core.bundle.stated import Manifest, SchemaFiles, of_fields, spec
from recs_core.data.catalog import Catalog
from recs_core.data.schema import Schema, Side
from recs_core.data.vocabulary import Vocabulary
from recs_core.errors import (
    BackendBroken,
    BackendConflict,
    BackendNotFound,
    BundleError,
    DataError,
    MissingExtra,
    UnsupportedFeature,
)
from recs_core.paths import local
from recs_core.specs import Optimizer, RetrievalSpec, Text, TowerSpec, TrainingSpec, check_pair

if TYPE_CHECKING:
    from recs_core.protocols import Backend, DType, Index
    from recs_core.recommender import Recommender
    from recs_core.training import FitRun, Position, TrainingHistory

log = logging.getLogger("recs_core")

Arrays = dict[str, "NDArray[Any]"]

SIDES: tuple[Side, Side] = ("query", "candidate")


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says of itself. `manifest`: all fields of docs/bundle.md as JSON; `stated`: the same, each checked
    to be there and of its type. `leftovers`: files of a save that was cut off, which are ignored. `card_changed`:
    README.md is not as it was written."""

    path: Path
    manifest: Mapping[str, Any]
    stated: Manifest
    leftovers: tuple[str, ...]
    card_changed: bool

    @property
    def size(self) -> int:
        """Bytes of its data files."""
        return sum(int(facts["length"]) for facts in self.manifest["files"].values())

    @property
    def natives(self) -> Mapping[Side, Native]:
        """The sides whose tower is a user's own module."""
        return self.stated.model.native

    @property
    def needed(self) -> Mapping[Side, Native]:
        """Of them, those without which it cannot answer: with stored vectors the candidate tower is not asked."""
        stored = "vectors" in self.stated.contents
        return {side: native for side, native in self.natives.items() if side == "query" or not stored}


def load(
    path: str | Path,
    *,
    backend: str | Backend | None = None,
    runtime: Literal["numpy"] | None = None,
    native: Mapping[Side, Any] | None = None,
    index: Index | str | None = None,
    verify: bool = True,
) -> Recommender:
    """The model in a bundle or checkpoint.

    On a backend (by default the selected one) it is a `TwoTower`, which trains on from the saved optimizer state. With
    `runtime="numpy"` it is a `Recommender` that imports no framework and reads weights from a memory map. `native`:
    "query" or "candidate" → the module, built again, of a tower that is a user's own; it takes over the saved weights.
    `index`: an `Index`, or the name of an installed one, for `recommend`; by default every candidate is scored.
    `verify`: check every file's digest, that all weights are finite, and that this backend gives the golden queries'
    answers.

    Raises `BundleError` with the file and the reason for a bundle that is damaged, cut off, foreign or from a newer
    version, or has a native tower and not what that needs; `BackendNotFound` and its kin for the backend.
    """
    if runtime not in (None, "numpy"):
        raise BundleError(f"runtime is 'numpy' or None, got {runtime!r}; a framework is named by backend=")
    if runtime is not None and backend is not None:
        raise BundleError(f"runtime={runtime!r} and backend={backend!r}: name one of them")
    if native is not None and not isinstance(native, Mapping):
        raise BundleError(f"native: expected {{'query': module}}, got {type(native).__name__}")
    if runtime is not None and native:
        raise BundleError(f"runtime={runtime!r} runs no module of yours; name a backend= for native=")
    stored = _read(local(path, "load", BundleError), verify)
    for name in stored.info.leftovers:
        log.warning(
            "%s: left over from a save that was cut off; ignored, and removed by the next save", stored.folder / name
        )
    model = stored.on_numpy() if runtime == "numpy" else stored.on_backend(backend, native or {})
    if index is not None:
        from recs_core.index.filtered import resolve

        resolve(index)  # so that an unknown name is said now
        model.index = index
    if verify:
        stored.replay(model, by="NumPy" if runtime == "numpy" else model.backend.info.name)  # type: ignore[attr-defined]
    return model


def info(path: str | Path) -> BundleInfo:
    """What a bundle says of itself, from its manifest alone. Raises `BundleError`."""
    folder = local(path, "info", BundleError)
    _, fields = manifest.read(folder)
    return _info(folder, fields)


def _info(folder: Path, fields: Mapping[str, Any]) -> BundleInfo:
    stated = of_fields(folder, fields)
    leftovers, _ = others(folder, fields["files"])
    card = stated.card
    changed = card is None or not is_as_written(folder / CARD, card.length, card.sha256)
    return BundleInfo(folder, fields, stated, tuple(leftovers), changed)


def verify(path: str | Path) -> BundleInfo:
    """Check everything: digests, names, dtypes, shapes, finiteness, codes, golden queries (by NumPy).

    Where a tower is a user's own module, which NumPy cannot run, the golden queries wait for `load`. Raises
    `BundleError` with the file and the reason.
    """
    stored = _read(local(path, "verify", BundleError), verify=True)
    if not stored.info.needed:
        stored.replay(stored.on_numpy(), by="NumPy")
    return stored.info


def _read(folder: Path, verify: bool) -> _Stored:
    """Open every file; once more if a save has just replaced the bundle, so that its files are gone."""
    while True:
        before, fields = manifest.read(folder)
        try:
            return _Stored(folder, fields, verify)
        except BundleError:
            if manifest.read(folder)[0] == before:
                raise


class _Stored:
    """The checked contents of a bundle."""

    def __init__(self, folder: Path, fields: Mapping[str, Any], verify: bool) -> None:
        self.folder = folder
        self.info = _info(folder, fields)
        self.stated = self.info.stated
        _, foreign = others(folder, fields["files"])
        if foreign:
            raise BundleError(f"{folder / foreign[0]}: is no part of this bundle; move it away")
        self._maps = {name: mapped(folder / name, facts["length"]) for name, facts in fields["files"].items()}
        if verify:
            for name, facts in fields["files"].items():
                check_digest(folder / name, self._maps[name], facts["sha256"])
        with self._making_sense():
            self._understand()
        if verify:
            golden.check_bound(self.arrays("golden"), self._ids, self._path("golden"))
            for name in ("weights", "state", "best", "vectors"):
                if name in self.parts:
                    tensors.check_finite(self._path(name), self.arrays(name))

    @contextmanager
    def _making_sense(self) -> Iterator[None]:
        """Whatever a bundle's contents do to code that trusts them is that bundle's fault, not a bug to show."""
        try:
            yield
        except (BackendNotFound, BackendBroken, BackendConflict, BundleError, MissingExtra, UnsupportedFeature):
            raise
        except FAULTS as error:
            raise BundleError(f"{self.folder / MANIFEST}: describes no model, {error}") from error

    def _understand(self) -> None:
        self.parts = dict(self.stated.contents)
        declared, where = self.stated.model, f"{self.folder / MANIFEST}, model"
        self.specs: dict[str, Any] = {
            "query": spec(TowerSpec, declared.query, f"{where}, query"),
            "candidate": spec(TowerSpec, declared.candidate, f"{where}, candidate"),
            "retrieval": spec(RetrievalSpec, declared.retrieval, f"{where}, retrieval"),
            "optimizer": spec(Optimizer, declared.optimizer, f"{where}, optimizer"),
            "training": spec(TrainingSpec, declared.training, f"{where}, training"),
        }
        self.dtype: DType = declared.dtype
        self.seed = declared.seed
        dtype = {"float32": "F32", "float64": "F64"}[self.dtype]
        self._ids: dict[str, str] = {}
        self.schema = self._schema(self.stated.schema)
        self.natives = self.info.natives
        if not self.natives:
            check_pair(self.specs["query"], self.specs["candidate"])
        rows, corpus = self.schema.table_rows, len(self.schema.candidates)
        query, candidate = (None if side in self.natives else self.specs[side] for side in ("query", "candidate"))
        shapes = canonical.shapes(query, candidate, self.specs["retrieval"], rows, corpus)
        weights = {name: (dtype, shape) for name, shape in shapes.items()}
        self._check("weights", weights)
        if "state" in self.parts:
            state = state_shapes(self.specs["optimizer"], shapes)
            self._check("state", {name: ("I64" if name == "step" else dtype, shape) for name, shape in state.items()})
        if "best" in self.parts:
            self._check("best", weights)
        check_numeric(self.folder / MANIFEST, self.schema, query=self.specs["query"], candidate=self.specs["candidate"])
        self.catalog: Catalog = catalog_of(
            self.arrays("catalog"), self.schema, self.specs["query"], self.specs["candidate"], self._path("catalog")
        )
        self.vectors = self._vectors(corpus, dtype) if "vectors" in self.parts else None
        self.golden = golden.of_arrays(self.arrays("golden"), self.catalog, self._path("golden"))
        self.losses = self._losses()

    def _losses(self) -> NDArray[np.float64]:
        found = self.arrays("history").get("losses")
        if found is None or found.dtype != np.float64 or found.ndim != 1:
            raise BundleError(f"{self._path('history')}: needs 'losses', one F64 for each step")
        return found

    def _schema(self, files: SchemaFiles) -> Schema:
        read: dict[str, Vocabulary] = {}

        def vocabulary(role: str, name: str, column: str) -> Vocabulary:
            if name not in self._maps:
                raise BundleError(
                    f"{self.folder / MANIFEST}: {name!r} holds ids of {column!r}, but is not among its files"
                )
            self._ids[role] = self.info.manifest["files"][name]["sha256"]
            if name not in read:
                read[name] = ids.read(self._maps[name], self.folder / name, column)
            return read[name]

        tables = files.vocabularies
        schema = Schema(
            query_name=files.query_name,
            candidate_name=files.candidate_name,
            queries=vocabulary("queries", files.queries, files.query_name),
            candidates=vocabulary("candidates", files.candidates, files.candidate_name),
            vocabularies={name: vocabulary(name, file, name.removeprefix("table/")) for name, file in tables.items()},
            numeric=dict(files.numeric),
            table_rows=dict(files.table_rows),
        )
        self._check_tables(schema)
        return schema

    def _check_tables(self, schema: Schema) -> None:
        """Every table that a tower reads has its rows, and its ids unless it is hashed."""
        for name in schema.vocabularies:
            if name not in schema.table_rows:
                raise BundleError(f"{self.folder / MANIFEST}: {name!r} has ids, but no number of rows")
            if schema.oov_rows(name) < 1:
                raise BundleError(f"{self.folder / MANIFEST}: {name!r} has fewer rows than ids")
        for side in SIDES:
            for feature in self.specs[side].features:
                table = feature.table_name
                if table is None:
                    continue
                if table not in schema.table_rows or not (isinstance(feature, Text) or table in schema.vocabularies):
                    raise BundleError(f"{self.folder / MANIFEST}: has no ids or rows of {table!r}, which {side} reads")

    def _vectors(self, corpus: int, dtype: str) -> NDArray[Any]:
        """Retrieval vectors of the corpus, as wide as the query tower's."""
        side: Side = "query"
        stated = self.natives.get(side)
        width = self.specs[side].output_dim if stated is None else stated.output_dim
        shape = (corpus, width + self.specs["retrieval"].candidate_bias)
        tensors.check(self._path("vectors"), self.arrays("vectors"), {"vectors": (dtype, shape)})
        return self.arrays("vectors")["vectors"]

    def _path(self, part: str) -> Path:
        return self.folder / self.parts[part]

    def arrays(self, part: str) -> Arrays:
        """The arrays of one part, as views of the map."""
        name = self.parts[part]
        if name not in self._maps:
            raise BundleError(f"{self.folder / MANIFEST}: {name!r} holds its {part}, but is not among its files")
        return self._arrays.setdefault(part, tensors.read(self._maps[name], self.folder / name))

    @cached_property
    def _arrays(self) -> dict[str, Arrays]:
        return {}

    def _check(self, part: str, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """What is declared; what a native module has only the module knows, and its backend checks."""
        own = tuple(f"{side}/native/" for side in self.natives)
        declared = {name: array for name, array in self.arrays(part).items() if not name.startswith(own)}
        tensors.check(self._path(part), declared, expected)

    # Models

    def on_numpy(self) -> Recommender:
        """A model that needs NumPy alone."""
        from recs_core.runtime import NumpyRecommender

        if self.info.needed:
            natives.refuse(self.folder, self.info.needed, "which NumPy cannot run")
        query, candidate, retrieval = (self.specs[name] for name in ("query", "candidate", "retrieval"))
        with self._making_sense():
            return NumpyRecommender(query, candidate, retrieval, self.catalog, self.arrays("weights"), self.vectors)

    def on_backend(self, backend: str | Backend | None, modules: Mapping[Side, Any]) -> Recommender:
        """A model that trains on. `modules`: those of native towers."""
        if not self.natives and not modules:
            with self._making_sense():
                return self._restored(backend, self.specs)
        from recs_core.config import select

        name = select(backend).name if backend is None or isinstance(backend, str) else backend.info.name
        if any(stated.backend != name for stated in self.natives.values()):
            natives.refuse(self.folder, self.natives, f"which the {name} backend cannot run")
        adopted = natives.adopted(self.folder, self.natives, self.specs, modules)
        try:
            return self._restored(backend, {**self.specs, **adopted})
        except DataError as error:
            raise BundleError(f"{self._path('weights')}: does not fit the module given in native=, {error}") from error

    def _restored(self, backend: str | Backend | None, parts: Mapping[str, Any]) -> Recommender:
        from recs_core.two_tower import TwoTower

        return TwoTower.restored(
            **parts,
            seed=self.seed,
            catalog=self.catalog,
            weights=self.arrays("weights"),
            backend=backend,
            dtype=self.dtype,
            state=self.arrays("state") if "state" in self.parts else None,
            position=self._position(),
            history=self._history(),
            data=self.info.manifest["provenance"]["data"],
            run=self._run(),
        )

    def replay(self, model: Recommender, by: str) -> None:
        """Raise `BundleError` if the model answers the golden queries otherwise."""
        weights, vectors = self.arrays("weights"), getattr(model, "vectors", None)
        asked = golden.Asked(
            self.catalog, model.query, model.retrieval, model.query_tower, model.candidate_tower, weights, vectors
        )
        with self._making_sense(), np.errstate(all="ignore"):  # absurd numbers give absurd scores, which are noticed
            golden.replay(self.golden, asked, self._path("golden"), by)

    # Training, where it stood

    def _position(self) -> Position:
        from recs_core.training import Position

        return Position(**vars(self.stated.position))

    def _history(self) -> TrainingHistory:
        from recs_core.training import EpochRecord, TrainingHistory

        stored = self.stated.history
        records = [EpochRecord(**vars(record)) for record in stored.epochs]
        return TrainingHistory(**{**vars(stored), "epochs": records}, losses=self.losses.tolist())

    def _run(self) -> FitRun | None:
        from recs_core.training import Best, EarlyStopping, FitRun

        run = self.stated.run
        if run is None:
            return None
        rule = None if run.early_stopping is None else EarlyStopping(**vars(run.early_stopping))
        weights = {name: array.copy() for name, array in self.arrays("best").items()} if "best" in self.parts else {}
        return FitRun(
            settings=spec(TrainingSpec, run.settings, f"{self.folder / MANIFEST}, run, settings"),
            until=run.until,
            data=run.data,
            validate_every=run.validate_every,
            k=run.k,
            best=Best(rule, **vars(run.best), weights=weights),
            open=run.open,
        )
