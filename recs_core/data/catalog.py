"""What a fitted model knows of its queries and candidates: enough to serve them without the training data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.data.batch import Codes, Features, Ragged
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.data.vocabulary import Vocabulary
from recs_core.specs import History, Numeric, TowerSpec

if TYPE_CHECKING:
    from recs_core.data.encoded import EncodedDataset


@dataclass(frozen=True)
class Catalog:
    """Encoded features of every known query (histories left empty) and of the corpus, and who took what.

    `seen`: candidate codes of each query's training rows, in time order. `counts` (corpus,): rows of each candidate.
    """

    schema: Schema
    query: Features
    candidate: Features
    seen: Ragged
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, data: EncodedDataset) -> Catalog:
        """The catalog of the training data."""
        return cls(data.schema, data.query, data.candidate, data.rows_by_query(), data.counts)


def as_id_array(ids: Any, vocabulary: Vocabulary) -> pa.Array:
    """Ids as typed by a user (list, NumPy, Arrow) → an Arrow array that `vocabulary` can encode."""
    if isinstance(ids, pa.ChunkedArray):
        return ids.combine_chunks()
    if isinstance(ids, pa.Array):
        return ids
    values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    return pa.array(values, vocabulary.ids.type if not values else None)


def codes_of(ids: Any, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Code of each id, −1 for one that is unknown."""
    return vocabulary.encode(as_id_array(ids, vocabulary))


def ragged_codes(lists: Iterable[Any], vocabulary: Vocabulary) -> Ragged:
    """A list of ids a row → known codes a row; unknown ids are left out."""
    rows = [codes_of(ids, vocabulary) for ids in lists]
    rows = [row[row >= 0] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    return Ragged(np.concatenate([np.zeros(0, np.int32), *rows]), offsets)


def candidates_of(data: Interactions | Iterable[Interactions], queries: pa.Array, schema: Schema) -> Ragged:
    """Candidate codes of each of `queries` in the data, in time order (row order where there is none); unknown ones
    are left out."""
    parts = [data] if isinstance(data, Interactions) else list(data)
    wanted = Vocabulary(queries)
    rows, codes, times = [], [], []
    for part in parts:
        row = wanted.encode(part.query_ids.ids)[part.query_codes]
        code = schema.candidates.encode(part.candidate_ids.ids)[part.candidate_codes]
        keep = (row >= 0) & (code >= 0)
        rows.append(row[keep])
        codes.append(code[keep])
        times.append(np.zeros(int(keep.sum())) if part.timestamps is None else part.timestamps[keep])
    row, code = np.concatenate(rows), np.concatenate(codes)
    order = np.lexsort((np.concatenate(times), row))
    offsets = np.zeros(len(queries) + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=len(queries)), out=offsets[1:])
    return Ragged(code[order].astype(np.int32), offsets)


def neutral(tower: TowerSpec, size: int) -> Features:
    """Features of queries of which nothing is known: OOV rows, empty bags, mean numbers."""
    codes: dict[str, Codes] = {}
    dense: dict[str, NDArray[np.floating]] = {}
    for feature in tower.features:
        if isinstance(feature, Numeric):
            dense[feature.name] = np.zeros(size)
        elif hasattr(feature, "pooling") or isinstance(feature, History):
            codes[feature.name] = Ragged(np.zeros(0, np.int32), np.zeros(size + 1, np.int32))
        else:
            codes[feature.name] = np.zeros(size, np.int32)
    return Features(size, codes, dense)
