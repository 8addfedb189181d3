"""What a manifest states, field by field (docs/bundle.md); and specs as it has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from recs_core.contract.as_json import Custom, from_json
from recs_core.contract.errors import BundleError
from recs_core.fitted import Native
from recs_core.storage.files import MANIFEST
from recs_core.storage.known import FAULTS, Count, known

Spec = TypeVar("Spec")
Json = Mapping[str, Any]


@dataclass(frozen=True)
class ModelStated:
    """The model as its user declared it; specs as JSON, read by `spec`."""

    query: Json
    candidate: Json
    retrieval: Json
    optimizer: Json
    training: Json
    seed: int
    dtype: Literal["float32", "float64"]
    native: Mapping[Literal["query", "candidate"], Native] = field(default_factory=dict)


@dataclass(frozen=True)
class SchemaFiles:
    """Names of columns, and of the files that hold ids; `learnt`: what each feature learned. `context`, `time_name`: as
    in `Schema`."""

    query_name: str
    candidate_name: str
    queries: str
    candidates: str
    vocabularies: Mapping[str, str]
    learnt: Mapping[str, Mapping[str, Any]]
    table_rows: Mapping[str, Count]
    context: tuple[str, ...] = ()
    time_name: str | None = None

    @property
    def id_files(self) -> dict[str, str]:
        """Every vocabulary by its role, and the file of its ids."""
        return {"queries": self.queries, "candidates": self.candidates, **self.vocabularies}


@dataclass(frozen=True)
class PositionStated:
    """Where training stands."""

    epoch: Count
    step: Count
    loss_sum: float
    weight_sum: float


@dataclass(frozen=True)
class RuleStated:
    """When a run stops early."""

    metric: str
    patience: Count
    min_delta: float


@dataclass(frozen=True)
class BestStated:
    """What early stopping remembers."""

    value: float | None
    epoch: Count | None
    waited: Count


@dataclass(frozen=True)
class RunStated:
    """The last call of fit."""

    settings: Json
    until: Count
    data: str
    validate_every: Count
    k: tuple[Count, ...]
    early_stopping: RuleStated | None
    best: BestStated
    open: bool


@dataclass(frozen=True)
class EpochStated:
    """One epoch."""

    epoch: Count
    loss: float
    seconds: float
    learning_rate: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class HistoryStated:
    """What training did."""

    epochs: tuple[EpochStated, ...]
    stopped: str
    best_epoch: Count | None
    masked_share: float | None
    own_loop: bool = False


@dataclass(frozen=True)
class DataStated:
    """Digest and size of the training data; its first and last time."""

    digest: str | None = None
    rows: Count | None = None
    queries: Count | None = None
    candidates: Count | None = None
    from_: float | None = None
    to: float | None = None


@dataclass(frozen=True)
class Provenance:
    """Who made it, of what."""

    data: DataStated
    versions: Mapping[str, str]
    command: str


@dataclass(frozen=True)
class IndexStated:
    """The index that the bundle holds. `spec`: its name and options; `provider`: the distribution that it is of, and
    its version. `recall`: the share of the exact best `k` that it found, on average over `queries` training queries."""

    spec: str
    provider: str
    recall: float
    k: Count
    queries: Count


@dataclass(frozen=True)
class CardFacts:
    """README.md as it was written."""

    length: Count
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All of it but `format`, `version`, `files` and `digest`, which `manifest.read` has checked."""

    created: str
    model: ModelStated
    schema: SchemaFiles
    contents: Mapping[str, tuple[str, ...] | str]
    position: PositionStated
    run: RunStated | None
    history: HistoryStated
    provenance: Provenance
    metrics: Mapping[str, float | tuple[float, float, float]]
    licence: str | None
    card: CardFacts | None = None
    index: IndexStated | None = None

    def files_of(self, part: str) -> tuple[str, ...]:
        """The files of a part: one, or one of each worker."""
        files = self.contents[part]
        return (files,) if isinstance(files, str) else files


def of_fields(folder: Path, given: Json) -> Manifest:
    """The manifest of a bundle. Raises `BundleError` naming the field that is missing or of another type."""
    return known(Manifest, given, str(folder / MANIFEST))


def spec(kind: type[Spec], data: Json, where: str, custom: Sequence[Custom] = ()) -> Spec:
    """A spec of this kind, fields of a later version left out. `custom`: classes of the caller's own that it
    may name. Raises `BundleError`."""
    try:
        found = from_json(data, custom=custom, strict=False)
    except FAULTS as error:
        raise BundleError(f"{where}: is no {kind.__name__}, {error}") from error
    if not isinstance(found, kind):
        raise BundleError(f"{where}: must be a {kind.__name__}, got a {type(found).__name__}")
    return found
