"""A bundle → a model: on a backend, or on NumPy alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from recs_core import weights as canonical
from recs_core.bundle import golden, ids, manifest, natives, tensors
from recs_core.bundle.contents import catalog_of, check_numeric, state_shapes
from recs_core.bundle.files import CARD, MANIFEST, check_digest, mapped, others
from recs_core.bundle.natives import Native
from recs_core.data.catalog import Catalog
from recs_core.data.schema import Schema, Side
from recs_core.data.vocabulary import Vocabulary
from recs_core.errors import BundleError, DataError, SpecError
from recs_core.specs import Optimizer, RetrievalSpec, TowerSpec, TrainingSpec, from_json

if TYPE_CHECKING:
    from recs_core.protocols import Backend, Index
    from recs_core.recommender import Recommender
    from recs_core.training import FitRun, Position, TrainingHistory

log = logging.getLogger("recs_core")

Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says of itself. `manifest`: all fields of docs/bundle.md. `leftovers`: files of a save that was cut
    off, which are ignored. `card_changed`: README.md is not as it was written."""

    path: Path
    manifest: Mapping[str, Any]
    leftovers: tuple[str, ...]
    card_changed: bool

    @property
    def size(self) -> int:
        """Bytes of its data files."""
        return sum(int(facts["length"]) for facts in self.manifest["files"].values())

    @property
    def natives(self) -> Mapping[Side, Native]:
        """The sides whose tower is a user's own module."""
        return natives.of_manifest(self.manifest)

    @property
    def needed(self) -> Mapping[Side, Native]:
        """Of them, those without which it cannot answer: with stored vectors the candidate tower is not asked."""
        stored = "vectors" in self.manifest["contents"]
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
    if runtime is not None and native:
        raise BundleError(f"runtime={runtime!r} runs no module of yours; name a backend= for native=")
    stored = _read(Path(path), verify)
    for name in stored.info.leftovers:
        log.warning(
            "%s: left over from a save that was cut off; ignored, and removed by the next save", stored.folder / name
        )
    model = stored.on_numpy() if runtime == "numpy" else stored.on_backend(backend, native or {})
    if index is not None:
        from recs_core.index.filtered import resolve

        model.index = resolve(index)  # so that an unknown name is said now
    if verify:
        stored.replay(model, by="NumPy" if runtime == "numpy" else model.backend.info.name)  # type: ignore[attr-defined]
    return model


def info(path: str | Path) -> BundleInfo:
    """What a bundle says of itself, from its manifest alone. Raises `BundleError`."""
    folder = Path(path)
    _, fields = manifest.read(folder)
    leftovers, _ = others(folder, fields["files"])
    card = folder / CARD
    changed = not card.is_file() or sha256(card.read_bytes()).hexdigest() != fields.get("card")
    return BundleInfo(folder, fields, tuple(leftovers), changed)


def verify(path: str | Path) -> BundleInfo:
    """Check everything: digests, names, dtypes, shapes, finiteness, codes, golden queries (by NumPy).

    Where a tower is a user's own module, which NumPy cannot run, the golden queries wait for `load`. Raises
    `BundleError` with the file and the reason.
    """
    stored = _read(Path(path), verify=True)
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
        self.folder, self.fields = folder, fields
        self.info = info(folder)
        _, foreign = others(folder, fields["files"])
        if foreign:
            raise BundleError(f"{folder / foreign[0]}: is no part of this bundle; move it away")
        self._maps = {name: mapped(folder / name, facts["length"]) for name, facts in fields["files"].items()}
        if verify:
            for name, facts in fields["files"].items():
                check_digest(folder / name, self._maps[name], facts["sha256"])
        try:
            self._understand()
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, BundleError):
                raise
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise BundleError(f"{folder / MANIFEST}: describes no model, {what}") from error
        if verify:
            for name in ("weights", "state", "best", "vectors"):
                if name in self.parts:
                    tensors.check_finite(self._path(name), self.arrays(name))

    def _understand(self) -> None:
        self.parts: dict[str, str] = dict(self.fields["contents"])
        declared = self.fields["model"]
        kinds = {
            "query": TowerSpec,
            "candidate": TowerSpec,
            "retrieval": RetrievalSpec,
            "optimizer": Optimizer,
            "training": TrainingSpec,
        }
        self.specs = {name: from_json(declared[name]) for name in kinds}
        for name, kind in kinds.items():
            if not isinstance(self.specs[name], kind):
                raise SpecError(f"{name} must be a {kind.__name__}")
        self.dtype: Literal["float32", "float64"] = declared["dtype"]
        self.seed: int = declared["seed"]
        dtype = {"float32": "F32", "float64": "F64"}[self.dtype]
        self.schema = self._schema(self.fields["schema"])
        self.natives = self.info.natives
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
        self.losses = self.arrays("history")["losses"]

    def _schema(self, fields: Mapping[str, Any]) -> Schema:
        read: dict[str, Vocabulary] = {}

        def vocabulary(name: str, column: str) -> Vocabulary:
            if name not in self._maps:
                raise BundleError(
                    f"{self.folder / MANIFEST}: {name!r} holds ids of {column!r}, but is not among its files"
                )
            if name not in read:
                read[name] = ids.read(self._maps[name], self.folder / name, column)
            return read[name]

        tables = fields["vocabularies"]
        schema = Schema(
            query_name=fields["query_name"],
            candidate_name=fields["candidate_name"],
            queries=vocabulary(fields["queries"], fields["query_name"]),
            candidates=vocabulary(fields["candidates"], fields["candidate_name"]),
            vocabularies={name: vocabulary(file, name.removeprefix("table/")) for name, file in tables.items()},
            numeric={name: (float(mean), float(deviation)) for name, (mean, deviation) in fields["numeric"].items()},
            table_rows={name: int(rows) for name, rows in fields["table_rows"].items()},
        )
        for name in schema.vocabularies:
            if schema.oov_rows(name) < 1:
                raise BundleError(f"{self.folder / MANIFEST}: {name!r} has fewer rows than ids")
        return schema

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
        return NumpyRecommender(query, candidate, retrieval, self.catalog, self.arrays("weights"), self.vectors)

    def on_backend(self, backend: str | Backend | None, modules: Mapping[Side, Any]) -> Recommender:
        """A model that trains on. `modules`: those of native towers."""
        if not self.natives and not modules:
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
            data=self.fields["provenance"]["data"],
            run=self._run(),
        )

    def replay(self, model: Recommender, by: str) -> None:
        """Raise `BundleError` if the model answers the golden queries otherwise."""
        weights, vectors = self.arrays("weights"), getattr(model, "vectors", None)
        asked = golden.Asked(
            self.catalog, model.query, model.retrieval, model.query_tower, model.candidate_tower, weights, vectors
        )
        golden.replay(self.golden, asked, self._path("golden"), by)

    # Training, where it stood

    def _position(self) -> Position:
        from recs_core.training import Position

        return Position(**self.fields["position"])

    def _history(self) -> TrainingHistory:
        from recs_core.training import EpochRecord, TrainingHistory

        stored = dict(self.fields["history"])
        records = [EpochRecord(**record) for record in stored.pop("epochs")]
        return TrainingHistory(epochs=records, losses=self.losses.tolist(), **stored)

    def _run(self) -> FitRun | None:
        from recs_core.training import Best, EarlyStopping, FitRun

        run = self.fields["run"]
        if run is None:
            return None
        rule = None if run["early_stopping"] is None else EarlyStopping(**run["early_stopping"])
        weights = {name: array.copy() for name, array in self.arrays("best").items()} if "best" in self.parts else {}
        return FitRun(
            settings=from_json(run["settings"]),
            until=run["until"],
            data=run["data"],
            validate_every=run["validate_every"],
            k=tuple(run["k"]),
            best=Best(rule, **run["best"], weights=weights),
            open=run["open"],
        )
