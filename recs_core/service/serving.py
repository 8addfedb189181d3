"""Which bundle serves: verified before it does, replaced in one assignment, kept where the next one fails."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import BundleError, RecsError, about
from recs_core.contract.messages import one_line
from recs_core.contract.protocols import TopK
from recs_core.index.exact import ExactIndex
from recs_core.index.live import LiveIndex
from recs_core.loading import on_numpy
from recs_core.plugin.manager import load_index
from recs_core.restoring import opened, replay, stored_index
from recs_core.runtime import NumpyRecommender
from recs_core.service.problems import Problem
from recs_core.where import Filters, parse

if TYPE_CHECKING:
    import pyarrow.compute as pc

    from recs_core.bundle import BundleInfo, Stored
    from recs_core.recommender import Recommender
    from recs_core.service.schemas import Update

CONDITIONS = 64
"""Conditions whose reading is kept."""


@dataclass(frozen=True)
class Served:
    """One bundle, verified, with all that an answer needs. It never changes: requests in flight finish on it.

    `digest`: of the bundle's manifest, and of the changes since: which one an answer is of.
    """

    model: Recommender
    stored: Stored
    digest: str
    searched: LiveIndex
    filters: Filters
    exact: bool
    _conditions: OrderedDict[str, pc.Expression] = field(default_factory=OrderedDict)

    @classmethod
    def of(cls, path: str, index: str | None = None) -> Served:
        """The bundle at `path`, its digests checked, its golden queries asked, its index restored or built.

        `index`: as in `Settings`.

        Raises `BundleError` for one that is damaged, too new, needs a framework or answers otherwise than when it was
        saved; `BackendNotFound` and its kin for the index.
        """
        stored = opened(path, progress=False)
        model, by = on_numpy(stored)
        replay(stored, model, by)
        digest = str(stored.info.manifest["digest"])
        held = stored_index(stored) if index is None else None
        if held is None:
            return cls._of(model, stored, digest, index)
        vectors, retired = model.encode_candidate().astype(np.float32, copy=False), model.catalog.retired
        return cls._with(model, stored, digest, LiveIndex(vectors, held, retired, built=True))

    @classmethod
    def _of(cls, model: Recommender, stored: Stored, digest: str, index: str | None) -> Served:
        """With the index of that spec, built."""
        found = ExactIndex() if index is None else load_index(index, asked_by="recs serve --index")
        vectors = model.encode_candidate().astype(np.float32, copy=False)
        return cls._with(model, stored, digest, LiveIndex(vectors, found, model.catalog.retired))

    @classmethod
    def _with(cls, model: Recommender, stored: Stored, digest: str, searched: LiveIndex) -> Served:
        return cls(model, stored, digest, searched, Filters(model.catalog.attributes), bool(searched.info.is_exact))

    def updated(self, asks: Update, index: str | None = None) -> Served:
        """What serves once candidates have changed, come or gone, the index built anew. Its digest is the one before,
        `+` and one of the change: whoever makes the same changes to the same bundle has the same.

        Golden queries are asked again where none of their candidates has changed. Raises as `update_candidates`.
        """
        model = NumpyRecommender(self.model.fitted(), self.model.encode_candidate())
        model.update_candidates(asks.candidates, retire=asks.retire)
        named = [] if asks.candidates is None else asks.candidates[model.schema.candidate_name]
        if not np.isin(self.stored.golden.candidates, model.schema.candidates.encode(named)).any():
            fitted = replace(self.stored.fitted, catalog=model.catalog, weights=model.weights())
            replay(replace(self.stored, fitted=fitted), model, "NumPy")
        change = hashlib.sha256(f"{self.digest} {asks.model_dump_json()}".encode()).hexdigest()[:12]
        spec = self.stored.index.spec if index is None and self.stored.index is not None else index
        return self._of(model, self.stored, f"{self.digest.partition('+')[0]}+{change}", spec)

    @property
    def info(self) -> BundleInfo:
        """What the bundle says of itself."""
        return self.stored.info

    @cached_property
    def in_bulk(self) -> bool:
        """Whether the query tower may be asked for many queries at once: a row's bits are the same in every batch.

        BLAS sums in another order for one row than for several, so a tower with layers is asked row by row. The
        runtime's encoders multiply each history by itself.
        """
        plan = self.model.query_tower.plan
        kinds = ("one", "many", "sequence")
        return plan is not None and not plan.layers and all(column.kind in kinds for column in plan.columns)

    def search(self, vectors: NDArray[np.float32], k: int, exclude: Ragged | None = None, allow: Any = None) -> TopK:
        """Positions of the best k of each query vector, as `FilteredIndex.search`."""
        return self.searched.search(vectors, k, exclude=exclude, allow=allow)

    def allowed(self, allow: list[Any] | None, where: str | None) -> NDArray[np.integer] | None:
        """Codes of the candidates that may come back, ascending; None for all. Raises `DataError`."""
        with about("allow"):
            listed = None if allow is None else np.unique(self.model.catalog.asked_for(allow, "allow"))
        if where is None:
            return listed
        with about("where"):
            kept = self.filters.kept(self.condition(where))
        return kept if listed is None else np.intersect1d(kept, listed, assume_unique=True)

    def condition(self, where: str) -> pc.Expression:
        """The condition that a text states, read once. Raises `DataError` for one that cannot be read."""
        found = self._conditions.get(where)
        if found is None:
            found = self._conditions[where] = parse(where, self.model.catalog.attributes.schema)
            if len(self._conditions) > CONDITIONS:
                self._conditions.popitem(last=False)
        return found

    def similar(self, candidates: list[Any], k: int, allow: Any) -> TopK:
        """Positions of the k nearest to each candidate, itself left out. Raises `DataError` for an unknown id."""
        with about("candidates"):
            codes = self.model.catalog.asked_for(candidates, "candidates")
        itself = Ragged(codes, np.arange(len(codes) + 1, dtype=np.int32))
        unit, index = self._neighbours
        return index.search(unit[codes], k, exclude=itself, allow=allow)

    @cached_property
    def _neighbours(self) -> tuple[NDArray[np.float32], LiveIndex]:
        """The corpus at length 1, made when it is first asked for."""
        unit = scoring.unit_vectors(self.model.encode_candidate(), self.model.retrieval).astype(np.float32, copy=False)
        return unit, LiveIndex(unit, None, self.model.catalog.retired)

    def attributes(self, codes: NDArray[np.integer]) -> list[dict[str, Any]]:
        """What the side table says of each candidate, its id left out, as JSON has it."""
        table = self.model.catalog.attributes
        return [{name: _plain(value) for name, value in row.items()} for row in _rows(table, codes)]


def _rows(table: pa.Table, codes: NDArray[np.integer]) -> list[dict[str, Any]]:
    rest = table.select(table.column_names[1:])
    return rest.take(pa.array(codes)).to_pylist() if rest.num_columns else [{} for _ in codes]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


class Serving:
    """The bundle that serves now, if any does. Several threads may ask; who replaces it holds `replacing`."""

    def __init__(self, path: str, index: str | None = None) -> None:
        self.path, self.index = path, index
        self._now: Served | None = None
        self.failed: str | None = None
        self.replacing = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether a verified bundle serves."""
        return self._now is not None

    @property
    def now(self) -> Served:
        """The bundle that serves. Raises `Problem` 503 where there is none."""
        if self._now is None:
            why = f"the bundle cannot be served: {self.failed}" if self.failed else "the bundle is being verified"
            raise Problem(503, "NotReady", why, retry=1)
        return self._now

    def verified(self, warm: Callable[[Served], None] = lambda _: None) -> Served:
        """What lies at the path now, verified and `warm`; it does not serve yet. Raises `RecsError`."""
        try:
            found = Served.of(self.path, self.index)
            warm(found)
        except RecsError as error:
            self.failed = one_line(error)
            raise
        except Exception as error:  # whatever damaged files do to code that reads them
            self.failed = f"{self.path}: {type(error).__name__}, {one_line(error)}"
            raise BundleError(self.failed) from error
        return found

    def serve(self, found: Served) -> None:
        """From now on this one serves."""
        self._now, self.failed = found, None

    def update(self, asks: Update, warm: Callable[[Served], None] = lambda _: None) -> Served:
        """Change candidates of what serves now, `warm` it, and serve it, until the next load. Raises `RecsError`, and
        `Problem` where nothing serves; what served before goes on."""
        with self.replacing:
            found = self.now.updated(asks, self.index)
            warm(found)
            self._now = found
            return found
