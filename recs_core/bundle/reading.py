"""A bundle → a fitted model, as a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.bundle import golden
from recs_core.bundle.contents import attributes_of, catalog_of, check_learnt
from recs_core.bundle.golden import Golden
from recs_core.bundle.parts import Parts
from recs_core.bundle.stated import Manifest, ModelStated, SchemaFiles, of_fields, spec
from recs_core.contract import weights as canonical
from recs_core.contract.as_json import Custom
from recs_core.contract.batch import Side
from recs_core.contract.errors import (
    BackendBroken,
    BackendConflict,
    BackendNotFound,
    BundleError,
    MissingExtra,
    UnsupportedFeature,
)
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec, check_pair
from recs_core.contract.training import TrainingSpec
from recs_core.data.schema import Schema
from recs_core.fitted import Declared, Fitted, Native, Progress
from recs_core.index.made import Made
from recs_core.storage import manifest, tensors
from recs_core.storage.files import CARD, MANIFEST, is_as_written, others
from recs_core.storage.known import FAULTS
from recs_core.storage.paths import local

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


@dataclass(frozen=True)
class Stored:
    """What a bundle holds: the model as a value, whose arrays are read-only views of memory maps; the golden queries;
    `vectors` (corpus, d), the retrieval vectors of the corpus, where it was saved with them; and what an `index` made
    of them, where it holds one."""

    info: BundleInfo
    fitted: Fitted
    golden: Golden
    vectors: NDArray[np.floating] | None
    index: Made | None = None

    @property
    def golden_file(self) -> Path:
        """Where the golden queries stand."""
        return self.info.path / self.info.stated.files_of("golden")[0]


def info(path: str | Path) -> BundleInfo:
    """What a bundle says of itself, from its manifest alone. Raises `BundleError`."""
    folder = local(path, "info", BundleError)
    _, fields = manifest.read(folder)
    return _info(folder, fields)


def read(
    path: str | Path,
    *,
    custom: Sequence[Custom] = (),
    verify: bool = True,
    progress: bool = True,
    asks: str = "read",
) -> Stored:
    """All that a bundle holds, with every name, dtype, shape and code checked; no model is built.

    `custom`: classes of one's own that it names. `verify`: also check every file's digest, that all weights and numbers
    are finite, and that ids are those of the golden queries. `progress`: also say where training stands, of which
    serving needs nothing; without it `fitted.progress` is None. `asks`: the call that the path was given to, for the
    message. Raises `BundleError` with the file and the reason.
    """
    folder = local(path, asks, BundleError)
    while True:  # once more if a save has just replaced the bundle, so that its files are gone
        before, fields = manifest.read(folder)
        try:
            return _read(_info(folder, fields), custom, verify, progress)
        except BundleError:
            if manifest.read(folder)[0] == before:
                raise


@contextmanager
def making_sense(folder: Path) -> Iterator[None]:
    """Whatever a bundle's contents do to code that trusts them is that bundle's fault, not a bug to show."""
    try:
        yield
    except (BackendNotFound, BackendBroken, BackendConflict, BundleError, MissingExtra, UnsupportedFeature):
        raise
    except FAULTS as error:
        raise BundleError(f"{folder / MANIFEST}: describes no model, {error}") from error


def _info(folder: Path, fields: Mapping[str, Any]) -> BundleInfo:
    stated = of_fields(folder, fields)
    leftovers, _ = others(folder, fields["files"])
    card = stated.card
    changed = card is None or not is_as_written(folder / CARD, card.length, card.sha256)
    return BundleInfo(folder, fields, stated, tuple(leftovers), changed)


def _read(info: BundleInfo, custom: Sequence[Custom], verify: bool, progress: bool) -> Stored:
    files = info.manifest["files"]
    parts = Parts(info.path, files, info.stated.contents, digests=verify)
    with making_sense(info.path):
        stored = _understood(info, parts, custom, progress)
    if verify:
        ids = {role: files[name]["sha256"] for role, name in info.stated.schema.id_files.items()}
        golden.check_bound(parts.arrays("golden"), ids, parts.path("golden"))
        for name in ("weights", "state", "best", "vectors", "catalog"):
            if name in parts.names:
                tensors.check_finite(parts.path(name), parts.arrays(name))
    return stored


def _understood(info: BundleInfo, parts: Parts, custom: Sequence[Custom], progress: bool) -> Stored:
    stated = info.stated
    declared = _declared(stated.model, f"{parts.manifest}, model", custom)
    schema = _schema(stated.schema, parts)
    _check_tables(schema, declared, parts.manifest)
    if not info.natives:
        check_pair(declared.query, declared.candidate)
    _check_arrays(declared, schema, info.natives, parts)
    parts.losses()
    check_learnt(parts.manifest, schema, query=declared.query, candidate=declared.candidate)
    towers, attributes = (declared.query, declared.candidate), attributes_of(parts, schema)
    catalog = catalog_of(parts.arrays("catalog"), attributes, schema, *towers, parts.path("catalog"))
    fitted = Fitted(
        declared=declared,
        catalog=catalog,
        weights=parts.arrays("weights"),
        natives=info.natives,
        progress=_progress(info.stated, parts) if progress else None,
        facts=info.manifest["provenance"]["data"],
        versions=stated.provenance.versions,
    )
    asked = golden.of_arrays(parts.arrays("golden"), catalog, parts.path("golden"))
    vectors = parts.arrays("vectors")["vectors"] if "vectors" in parts.names else None
    return Stored(info, fitted, asked, vectors, _index(stated, parts))


def _index(stated: Manifest, parts: Parts) -> Made | None:
    """What the index made; its plugin looks at it when it is restored."""
    if (stated.index is None) != ("index" not in parts.names) or (stated.index and "vectors" not in parts.names):
        raise BundleError(f"{parts.manifest}: an index needs its file, the file of its vectors and what is said of it")
    if stated.index is None:
        return None
    return Made(stated.index.spec, stated.index.provider, parts.arrays("index"), parts.path("index"))


def _progress(stated: Manifest, parts: Parts) -> Progress:
    from recs_core.bundle.progress import progress_of  # which imports training, and who serves does without it

    return progress_of(stated, parts)


def _declared(stated: ModelStated, where: str, custom: Sequence[Custom]) -> Declared:
    return Declared(
        query=spec(TowerSpec, stated.query, f"{where}, query", custom),
        candidate=spec(TowerSpec, stated.candidate, f"{where}, candidate", custom),
        retrieval=spec(RetrievalSpec, stated.retrieval, f"{where}, retrieval"),
        optimizer=spec(Optimizer, stated.optimizer, f"{where}, optimizer", custom),
        training=spec(TrainingSpec, stated.training, f"{where}, training"),
        seed=stated.seed,
        dtype=stated.dtype,
    )


def _schema(files: SchemaFiles, parts: Parts) -> Schema:
    tables = files.vocabularies
    return Schema(
        query_name=files.query_name,
        candidate_name=files.candidate_name,
        queries=parts.vocabulary(files.queries, files.query_name),
        candidates=parts.vocabulary(files.candidates, files.candidate_name),
        vocabularies={name: parts.vocabulary(file, name.removeprefix("table/")) for name, file in tables.items()},
        learnt=dict(files.learnt),
        table_rows=dict(files.table_rows),
        context=files.context,
        time_name=files.time_name,
    )


def _check_tables(schema: Schema, declared: Declared, path: Path) -> None:
    """Every table that a tower reads has its rows, and its ids where the feature looks ids up."""
    for name in schema.vocabularies:
        if name not in schema.table_rows:
            raise BundleError(f"{path}: {name!r} has ids, but no number of rows")
        if schema.first_row(name) < 1:
            raise BundleError(f"{path}: {name!r} has fewer rows than ids")
    read = {feature.name for feature in declared.query.features if not feature.reads_past}.intersection(schema.context)
    if declared.query.reads_time == "request":
        read.add(schema.time_name or "")
    for read_of_request in schema.of_request:
        if read_of_request not in read:
            raise BundleError(f"{path}: {read_of_request!r} is read of a request, but not by the query tower")
    for side in SIDES:
        for feature in getattr(declared, side).features:
            table = feature.table_name
            if table is None:
                continue
            if table not in schema.table_rows or (feature.has_vocabulary and table not in schema.vocabularies):
                raise BundleError(f"{path}: has no ids or rows of {table!r}, which {side} reads")


def _check_arrays(declared: Declared, schema: Schema, natives: Mapping[Side, Native], parts: Parts) -> None:
    """Weights, state and vectors are those of the specs. What a native module has only the module knows, and its
    backend checks."""
    dtype = {"float32": "F32", "float64": "F64"}[declared.dtype]
    query, candidate = (None if side in natives else TowerPlan.of(side, getattr(declared, side)) for side in SIDES)
    corpus = len(schema.candidates)
    shapes = canonical.shapes(query, candidate, declared.retrieval, schema.table_rows, corpus)
    state = UpdatePlan(declared.optimizer).state_shapes(shapes)
    expected = {
        "weights": {name: (dtype, shape) for name, shape in shapes.items()},
        "state": {name: ("I64" if name == "step" else dtype, shape) for name, shape in state.items()},
        "best": {name: (dtype, shape) for name, shape in shapes.items()},
    }
    own = tuple(f"{side}/native/" for side in natives)
    for part, arrays in expected.items():
        if part == "weights" or part in parts.names:
            found = {name: array for name, array in parts.arrays(part).items() if not name.startswith(own)}
            tensors.check(parts.path(part), found, arrays)
    if "vectors" in parts.names:  # as wide as the query tower's
        width = natives["query"].output_dim if "query" in natives else declared.query.output_dim
        shape = (corpus, width + declared.retrieval.candidate_bias)
        tensors.check(parts.path("vectors"), parts.arrays("vectors"), {"vectors": (dtype, shape)})
