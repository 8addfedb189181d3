"""A bundle's candidate vectors as one Parquet file, which a search engine loads, and how a query's vector is made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from recs_core import scoring
from recs_core.contract.errors import DataError
from recs_core.loading import on_numpy
from recs_core.recommender import EMBED_ROWS, Recommender
from recs_core.restoring import opened, replay
from recs_core.storage import whole
from recs_core.storage.paths import local
from recs_core.tables import parquet_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recs_core.bundle import BundleInfo
    from recs_core.contract.as_json import Custom

METADATA = "recs-core"
"""The key of the file's metadata under which the facts stand, as JSON."""


@dataclass(frozen=True)
class VectorFacts:
    """What the metadata of the file says of it.

    `rows` vectors of `dim` numbers; a candidate's id is in column `id`, its vector in column `vector`, and its place in
    the file is its position in the corpus. `metric`: a score is the inner product of a query's and a candidate's
    vector. `cosine_ranks_alike`: cosine gives the same order, since all candidates are of one length. `bundle`: digest
    of the one whose vectors they are; those of another bundle's queries do not fit. `query`: what its vector is made
    of and by what.
    """

    rows: int
    dim: int
    id: str
    vector: str
    bundle: str
    cosine_ranks_alike: bool
    query: dict[str, Any]
    metric: str = "inner product"
    format: str = "recs-core vectors"
    version: int = 1


def export_vectors(
    path: str | Path, to: str | Path, *, column: str = "vector", custom: Sequence[Custom] = (), force: bool = False
) -> VectorFacts:
    """Write the candidate vectors of a bundle to a Parquet file; what its metadata says, as JSON under "recs-core".

    `path`: the bundle, which is checked as by `recs.load`. `to`: the file, a row per candidate in the order of the
    corpus: its id under the training data's name, its retrieval vector under `column` (a fixed-size list of float32),
    and its attributes. `custom` as in `recs.load`. `force`: replace a file that is there. No framework is needed; of
    vectors that the bundle does not hold some 65,000 are made at a time.

    Raises `BundleError` for a folder that is no whole bundle, or whose candidate tower NumPy cannot run; `DataError`
    for a file that is there or cannot be written, and for an attribute that has the name of `column`.
    """
    out = local(to, "export_vectors", DataError)
    whole.check_file(out, "the vectors")
    if out.exists() and not force:
        raise DataError(f"{out} exists; name another file, or pass force=True to replace it")
    stored = opened(path, custom=custom, progress=False)
    model, by = on_numpy(stored)
    replay(stored, model, by)
    if column in model.catalog.attributes.column_names:
        raise DataError(f"{path}: its candidates have a column {column!r} already; call that of the vectors otherwise")
    facts = _facts(stored.info, model, column)
    schema = _schema(model, facts)
    parquet_files.write(out, _tables(model, schema), schema)
    return facts


def _facts(bundle: BundleInfo, model: Recommender, column: str) -> VectorFacts:
    spec, schema = model.retrieval, model.schema
    reads = [feature.name for feature in model.query.features]
    return VectorFacts(
        rows=len(schema.candidates),
        dim=model.query.output_dim + spec.candidate_bias,
        id=schema.candidate_name,
        vector=column,
        bundle=str(bundle.manifest["digest"]),
        cosine_ranks_alike=spec.scoring == "cosine" and not spec.candidate_bias,
        query={
            "id": schema.query_name,
            "reads": reads,
            "python": "recs_core.load(BUNDLE, runtime='numpy').encode_query(QUERIES)",
        },
    )


def _schema(model: Recommender, facts: VectorFacts) -> pa.Schema:
    attributes = model.catalog.attributes.schema
    fields = [attributes.field(0), pa.field(facts.vector, pa.list_(pa.float32(), facts.dim), nullable=False)]
    metadata = {METADATA: json.dumps(asdict(facts), ensure_ascii=False)}
    return pa.schema([*fields, *list(attributes)[1:]], metadata)


def _tables(model: Recommender, schema: pa.Schema) -> Iterator[pa.Table]:
    """A piece of the corpus after the other, each a row group."""
    attributes = model.catalog.attributes
    for start, vectors in _pieces(model):
        rows = attributes.slice(start, len(vectors))
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        yield pa.table([rows.column(0), lists, *rows.columns[1:]], schema=schema)


def _pieces(model: Recommender) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Retrieval vectors from each start on, cut where `encode_candidate` cuts, so that they are its to the last bit."""
    size, stored, features = len(model.schema.candidates), getattr(model, "vectors", None), model.catalog.candidate
    for start in range(0, size, EMBED_ROWS):
        codes = np.arange(start, min(start + EMBED_ROWS, size), dtype=np.int32)
        if stored is not None:
            yield start, stored[codes[0] : codes[-1] + 1]
        else:
            raw = model.candidate_tower.embed(features.take(codes))
            yield start, scoring.candidate_vectors(raw, model.retrieval, model.weights(), codes)
