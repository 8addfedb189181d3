"""Recommendations for a file of queries: in bounded memory, and from where it stopped if it was cut off.

Everything that can be checked is, before anything is made. Answers are written in parts beside the output
(`out.parquet.parts/`), each complete or not there; at the end the parts become one file. So the same job ends in the
same bytes, however often it was cut off.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recs_core.contract.errors import DataError
from recs_core.index.diverse import pool_size
from recs_core.index.plan import check_k
from recs_core.recommender import Recommender
from recs_core.runtime.query_files import QueryFile, opened, reading
from recs_core.runtime.requests import Requests
from recs_core.storage.paths import local
from recs_core.tables import parquet_files
from recs_core.tables.csv_files import Dialect
from recs_core.where import Filters, parse

PART_ROWS = 8_192
"""Queries answered together: enough for the search to be one of large matrices, little to lose or to hold."""

_PLAN = "job.json"


@dataclass(frozen=True)
class Job:
    """What is asked. `bundle`: digest of the bundle that answers, so that a job is not finished with another.

    `where`: a condition as text (`recs_core.where.parse`); `diversity` and `pool` as in `recommend`. `context`, `at`:
    as in `recs_core.runtime.requests.Requests`.
    """

    queries: Path
    out: Path
    bundle: str
    k: int = 10
    exclude_seen: bool = False
    unknown: Literal["oov", "popular", "error"] = "oov"
    column: str | None = None
    where: str | None = None
    diversity: float | None = None
    pool: int | None = None
    context: tuple[str, ...] = ()
    at: str | None = None
    dialect: Dialect = field(default_factory=Dialect)

    @property
    def parts(self) -> Path:
        """Folder of the answers so far."""
        return self.out.with_name(self.out.name + ".parts")


@dataclass(frozen=True)
class Done:
    """Queries answered, of them unknown to the model, and of them found answered by an earlier, cut off run."""

    queries: int
    unknown: int
    resumed: int


def recommend_file(model: Recommender, job: Job, progress: Callable[[int, int], None] = lambda done, of: None) -> Done:
    """Answer every query of `job.queries`, a Parquet or CSV file whose column `job.column` holds query ids: by default
    the one named as the model's, or the only one. `job.dialect`: how a CSV file is written.

    `job.out` gets a row for each row of it, in order: the query id, a list of the best candidate ids under the
    model's name for candidates, and a list of their `score`. Where fewer than k remain the lists are shorter. Queries
    are answered by id, and by columns that the model reads of a request: a column of any other feature is left unread,
    with a warning.

    Raises `DataError` for a file or ids that cannot be used, an output that cannot be written, and if parts of another
    job are in the way; of these only a disk that fills up is noticed after the first part is there.
    """
    job = replace(job, queries=local(job.queries, "queries", DataError), out=local(job.out, "out", DataError))
    source = opened(job.queries, model.schema.queries, job.column, job.dialect)
    unknown, options = _checked(model, job, source), _options(model, job)
    requests = Requests.of(
        model.query, model.schema, job.context, job.at, file=str(job.queries), columns=source.columns
    )
    _warn_of_features(model, source)
    _check_out(job)
    plan = _plan(model, job, source.column)
    _check_parts(job, plan)
    _begin(job, plan)
    done, resumed = 0, 0
    names, schema = [], _answers_schema(model)
    for number, piece in enumerate(source.pieces(PART_ROWS, requests.columns)):
        part = job.parts / f"part-{number:06d}.parquet"
        names.append(part)
        if part.exists():
            resumed += len(piece)
        else:
            answer = _answer(model, source.ids(piece), job.k, {**options, **requests.asks(piece)})
            parquet_files.write(part, [answer], schema)
        done += len(piece)
        progress(done, source.rows)
    parquet_files.write(job.out, (pq.read_table(part) for part in names), schema)
    shutil.rmtree(job.parts)
    return Done(source.rows, unknown, resumed)


# Before anything is made


def _checked(model: Recommender, job: Job, source: QueryFile) -> int:
    """How many queries the model does not know. Raises `DataError` for ids that it cannot answer."""
    strangers, first = 0, None
    for ids in map(source.ids, source.pieces(PART_ROWS)):
        unknown = model.schema.queries.encode(ids) < 0
        if first is None and unknown.any():
            first = ids[int(np.argmax(unknown))].as_py()
        strangers += int(unknown.sum())
    if job.unknown == "error" and strangers:
        raise DataError(
            f"{job.queries}, column {source.column!r}: {strangers:,} of {source.rows:,} queries were never seen "
            f"in training, the first is {first!r}; leave them out, or ask for unknown 'oov' or 'popular'"
        )
    return strangers


def _options(model: Recommender, job: Job) -> dict[str, Any]:
    """How each part is asked. Raises `DataError` for what cannot be."""
    corpus = len(model.schema.candidates)
    pool_size(check_k(job.k, corpus), job.diversity, job.pool, corpus)
    where = None if job.where is None else parse(job.where, model.catalog.attributes.schema)
    if where is not None:
        Filters(model.catalog.attributes).kept(where)
    return {
        "exclude": "seen" if job.exclude_seen else None,
        "where": where,
        "diversity": job.diversity,
        "pool": job.pool,
        "unknown": "quiet" if job.unknown == "oov" else job.unknown,  # how many there are is said once, at the end
    }


def _warn_of_features(model: Recommender, source: QueryFile) -> None:
    """Whoever gives a feature beside an id expects it to count."""
    of_request = {source.column, *model.schema.context}
    read = {feature.name for feature in model.query.features if not feature.reads_past} - of_request
    unread = [name for name in source.columns if name in read]
    if unread:
        warnings.warn(
            f"{source.path}: {', '.join(unread)} not read: queries are answered by id, with the features that the "
            "model knows of them; in Python, model.recommend(features=table) reads these",
            stacklevel=3,
        )


def _check_out(job: Job) -> None:
    parquet_files.check_out(job.out, "the answers")
    if job.out.exists() and job.out.samefile(job.queries):
        raise DataError(f"{job.out}: holds the queries; name another file for the answers")


def _plan(model: Recommender, job: Job, column: str) -> dict[str, Any]:
    """What must be the same for parts to be of the same job."""
    with reading(job.queries), job.queries.open("rb") as file:
        queries = hashlib.file_digest(file, "sha256").hexdigest()
    stated = {"queries": queries, "out": job.out.name, "column": column, "index": _index(model)}
    plan = {**asdict(job), **stated, "part_rows": PART_ROWS}
    return dict(json.loads(json.dumps(plan)))  # as it will be read


def _index(model: Recommender) -> str:
    """The name of the index that finds the answers."""
    index = "exact" if model.index is None else model.index
    return index if isinstance(index, str) else index.info.name


def _check_parts(job: Job, plan: Mapping[str, Any]) -> None:
    """Raise `DataError` if what lies where the parts go is of another job, and would be lost or mixed with this one."""
    if not job.parts.exists() and not job.parts.is_symlink():
        return
    if not job.parts.is_dir() or (any(job.parts.iterdir()) and not (job.parts / _PLAN).exists()):
        raise DataError(f"{job.parts}: is in the way and no folder of a job; move it, or choose another output")
    if not any(job.parts.glob("part-*.parquet")):
        return  # nothing was answered, so nothing is lost
    before = _stored(job.parts / _PLAN)
    changed = [name for name in plan if plan[name] != before.get(name)]
    if changed:
        raise DataError(
            f"{job.parts}: holds parts of a job with another {' and '.join(changed)}; finish that job as it was begun, "
            f"or start afresh: rm -r {shlex.quote(str(job.parts))}"
        )


def _stored(path: Path) -> dict[str, Any]:
    """The plan of an earlier job; empty if it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# Made


def _begin(job: Job, plan: Mapping[str, Any]) -> None:
    with parquet_files.writing(job.parts):
        job.parts.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plan, indent=1)
        parquet_files.replace(job.parts / _PLAN, lambda path: path.write_text(text, encoding="utf-8"))


def _answer(model: Recommender, ids: pa.Array, k: int, options: Mapping[str, Any]) -> pa.Table:
    found = model.recommend_codes(ids, k, **options)
    there = found.ids >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32))
    names = model.schema.candidates.ids.take(pa.array(found.ids[there]))
    scores = pa.array(found.scores[there].astype(np.float32))
    lists = [pa.ListArray.from_arrays(offsets, values) for values in (names, scores)]
    return pa.table([ids, *lists], schema=_answers_schema(model))


def _answers_schema(model: Recommender) -> pa.Schema:
    schema = model.schema
    fields = [
        (schema.query_name, schema.queries.ids.type),
        (schema.candidate_name, pa.list_(schema.candidates.ids.type)),
    ]
    return pa.schema([*fields, ("score", pa.list_(pa.float32()))])
