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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recs_core.contract.errors import DataError
from recs_core.recommender import Recommender
from recs_core.runtime.answering import PART_ROWS, Answering, Question
from recs_core.runtime.query_files import QueryFile, opened
from recs_core.storage import whole
from recs_core.storage.paths import local
from recs_core.tables import parquet_files
from recs_core.tables.csv_files import Dialect

_PLAN = "job.json"


@dataclass(frozen=True)
class Job(Question):
    """A question about a file of queries. `bundle`: digest of the bundle that answers, so that a job is not finished
    with another. `dialect`: how a CSV file is written."""

    queries: Path
    out: Path
    bundle: str
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

    `job.out` gets a row for each row of it, in order, as `Answering` makes them. Queries are answered by id, and by
    columns that the model reads of a request: a column of any other feature is left unread, with a warning.

    Raises `DataError` for a file or ids that cannot be used, an output that cannot be written, and if parts of another
    job are in the way; of these only a disk that fills up is noticed after the first part is there.
    """
    job = replace(job, queries=local(job.queries, "queries", DataError), out=local(job.out, "out", DataError))
    source = opened(job.queries, model.schema.queries, job.column, job.dialect)
    answering = Answering.of(model, job, source.columns, str(job.queries))
    unknown = _checked(model, job, source)
    answering.warn_of_features(source.columns)
    _check_out(job)
    plan = _plan(model, job, source.column)
    _check_parts(job, plan)
    _begin(job, plan)
    done, resumed = 0, 0
    names = []
    for number, piece in enumerate(source.pieces(PART_ROWS, answering.columns)):
        part = job.parts / f"part-{number:06d}.parquet"
        names.append(part)
        if part.exists():
            resumed += len(piece)
        else:
            parquet_files.write(part, [answering(piece)], answering.schema)
        done += len(piece)
        progress(done, source.rows)
    parquet_files.write(job.out, (pq.read_table(part) for part in names), answering.schema)
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


def _check_out(job: Job) -> None:
    whole.check_file(job.out, "the answers", made=True)
    if job.out.exists() and job.out.samefile(job.queries):
        raise DataError(f"{job.out}: holds the queries; name another file for the answers")


def _plan(model: Recommender, job: Job, column: str) -> dict[str, Any]:
    """What must be the same for parts to be of the same job."""
    with parquet_files.reading(job.queries), job.queries.open("rb") as file:
        queries = hashlib.file_digest(file, "sha256").hexdigest()
    stated = {"queries": queries, "out": job.out.name, "column": column, "index": _index(model)}
    plan = {**asdict(job), **stated, "part_rows": PART_ROWS}
    return dict(json.loads(json.dumps(plan)))  # as it will be read


def _index(model: Recommender) -> str:
    """The index that finds the answers, with its options where it says them."""
    index = "exact" if model.index is None else model.index
    return index if isinstance(index, str) else str(getattr(index, "spec", index.info.name))


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
    with whole.writing(job.parts):
        job.parts.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plan, indent=1)
        whole.replace(job.parts / _PLAN, lambda path: path.write_text(text, encoding="utf-8"))
