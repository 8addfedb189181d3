"""A store: interactions in codes, in the order that training wants, opened as a memory map.

    manifest.json             kind "store": names, number of rows, files with their digests
    rows-….safetensors        query, candidate (int32), time, weight (float64), where there are these: n rows each,
                              sorted by query, then time, then as they came
    queries-….arrow           the side table of the queries: their ids first; row = code
    candidates-….arrow        the same of the candidates
    context-….arrow           what else is known of each row, in record batches

Files and manifest are those of a bundle (docs/bundle.md). docs/store.md says how another engine writes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.interactions import Interactions
from recs_core.storage import files, manifest, tensors
from recs_core.storage.commit import Commit, committing
from recs_core.storage.known import known
from recs_core.storage.paths import local
from recs_core.storage.whole import check_folder
from recs_core.tables import arrow_files

if TYPE_CHECKING:
    from mmap import mmap

    from _typeshed import ReadableBuffer as Buffer

KIND = "store"

CARD = """# {rows:,} interactions: {queries:,} {query} × {candidates:,} {candidate}

A store of recs-core. To train on it:

    import recs_core as recs
    data = recs.open_store("path of this folder")
"""

COLUMNS: Mapping[str, str] = {"query": "I32", "candidate": "I32", "time": "F64", "weight": "F64"}
"""The columns of the rows that a store may have, and their types, as `tensors.DTYPES` names them."""

BLOCK = 1 << 20
"""Rows, or bytes, looked at together."""


@dataclass(frozen=True)
class Names:
    """The columns by the names that they came with."""

    query: str
    candidate: str
    timestamp: str | None = None
    weight: str | None = None

    @property
    def columns(self) -> list[str]:
        """Those of `COLUMNS` that there are."""
        there = {"query": True, "candidate": True, "time": self.timestamp, "weight": self.weight}
        return [name for name, named in there.items() if named]


@dataclass(frozen=True)
class Parts:
    """The files by what they hold."""

    rows: str
    queries: str
    candidates: str
    context: str | None = None


@dataclass(frozen=True)
class Stated:
    """What the manifest says."""

    names: Names
    rows: int
    parts: Parts


def write(
    folder: Path,
    names: Names,
    rows: Mapping[str, Path],
    number: int,
    queries: pa.Table,
    candidates: pa.Table,
    context: Path | None,
) -> None:
    """Commit a store. `rows`: of each column a file of its bare numbers. `context`: an Arrow file.

    Raises `BundleError` where the folder holds anything else, or cannot be written.
    """
    check_target(folder)
    with committing(folder) as commit:
        parts = {
            "rows": commit.add("rows", "safetensors", _tensors(rows, number)),
            "queries": _add_table(commit, "queries", queries),
            "candidates": _add_table(commit, "candidates", candidates),
        }
        if context is not None:
            parts["context"] = commit.add("context", "arrow", _blocks(context))
        said = {name: value for name, value in vars(names).items() if value is not None}
        fields = {"kind": KIND, "names": said, "rows": number, "parts": parts, "files": commit.files}
        card = CARD.format(rows=number, queries=len(queries), candidates=len(candidates), **said)
        commit.finish(manifest.encode(folder, fields), card.encode())


def open_store(path: str | Path, *, verify: bool = True) -> Interactions:
    """The interactions of a store, its rows as a read-only memory map.

    `verify`: compare every file with its digest, which reads them all once; without it only their lengths are.

    Raises `DataError` for a folder that is no store, `BundleError` naming the file that is missing, damaged or of a
    newer version.
    """
    folder = local(path, "open_store", DataError)
    said, facts = stated(folder)
    parts = {
        part: (_mapped(folder / name, facts[name], verify), folder / name)
        for part, name in vars(said.parts).items()
        if name is not None
    }
    rows = tensors.read(*parts["rows"])
    expected = {name: (COLUMNS[name], (said.rows,)) for name in said.names.columns}
    tensors.check(parts["rows"][1], rows, expected)
    queries = _side(*parts["queries"], said.names.query)
    candidates = _side(*parts["candidates"], said.names.candidate)
    context = pa.ipc.open_file(pa.py_buffer(parts["context"][0])).read_all() if "context" in parts else pa.table({})
    if "context" in parts and len(context) != said.rows:
        raise BundleError(f"{parts['context'][1]}: has {len(context):,} rows, the manifest says {said.rows:,}")
    return Interactions(
        query_name=said.names.query,
        candidate_name=said.names.candidate,
        timestamp_name=said.names.timestamp,
        query_codes=rows["query"],
        candidate_codes=rows["candidate"],
        timestamps=rows.get("time"),
        query_ids=Vocabulary(queries[said.names.query], said.names.query),
        candidate_ids=Vocabulary(candidates[said.names.candidate], said.names.candidate),
        queries=queries,
        candidates=candidates,
        extra=context,
        weight_name=said.names.weight,
        weights=rows.get("weight"),
        in_order=True,
    )


def check_store(path: str | Path) -> Interactions:
    """`open_store`, and every row: that codes are of ids that there are, times finite and weights no less than 0, and
    that rows stand in their order. Raises as that, and `DataError` naming file and row."""
    data = open_store(path)
    folder = local(path, "check_store", DataError)
    file = folder / stated(folder)[0].parts.rows
    for start in range(0, len(data), BLOCK):
        rows = slice(max(0, start - 1), start + BLOCK)  # with the one before, for the order
        for name, codes, ids in (
            ("query", data.query_codes[rows], data.query_ids),
            ("candidate", data.candidate_codes[rows], data.candidate_ids),
        ):
            _refuse(file, rows.start, (codes < 0) | (codes >= len(ids)), f"{name} is no code of {len(ids):,} ids")
        queries, times, weights = data.query_codes[rows], data.timestamps, data.weights
        before = queries[1:] < queries[:-1]
        if times is not None:
            _refuse(file, rows.start, ~np.isfinite(times[rows]), "time is no number")
            before |= (queries[1:] == queries[:-1]) & (times[rows][1:] < times[rows][:-1])
        _refuse(file, rows.start + 1, before, "comes before the row above it by query and time")
        if weights is not None:
            _refuse(file, rows.start, ~((weights[rows] >= 0) & np.isfinite(weights[rows])), "weight is not ≥ 0")
    return data


def check_target(folder: Path) -> None:
    """Raise where a store cannot be written: `DataError` for a bundle, `BundleError` for a folder of anything else."""
    if (folder / files.MANIFEST).exists():
        stated(folder)
        return
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder}: is a file; a store is a folder")
    check_folder(folder, "the store", BundleError)
    if folder.is_dir() and (foreign := files.others(folder, ())[1]):
        raise BundleError(f"{folder}: is no store and holds {foreign[0]!r}; name a new or empty folder")


def is_store(path: Path) -> bool:
    """Whether a folder is to be opened as a store: it has a manifest, be that damaged or a bundle's, which is said."""
    return (path / files.MANIFEST).is_file()


def stated(folder: Path) -> tuple[Stated, dict[str, Any]]:
    """What the manifest says, and the files that it names. Raises as `open_store`."""
    path = folder / files.MANIFEST
    if not path.exists():
        what = "is no store" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; recs data ingest (in Python recs.ingest) makes one")
    fields = manifest.read(folder)[1]
    if fields.get("kind") != KIND:
        raise DataError(f"{folder}: is a bundle, and no store of interactions")
    said = known(Stated, fields, str(path))
    named = {name for name in vars(said.parts).values() if name is not None}
    if not named <= set(fields["files"]):
        raise BundleError(f"{path}: does not name the files of its parts")
    return said, fields["files"]


def _refuse(file: Path, start: int, bad: NDArray[np.bool_], why: str) -> None:
    if bad.any():
        raise DataError(f"{file}: row {start + int(np.argmax(bad)):,}: {why}; write the store anew")


def _mapped(path: Path, facts: Mapping[str, Any], verify: bool) -> mmap:
    content = files.mapped(path, facts["length"])
    if verify:
        files.check_digest(path, content, facts["sha256"])
    return content


def _side(content: mmap, path: Path, name: str) -> pa.Table:
    def check(schema: pa.Schema) -> None:
        if schema.names[:1] != [name]:
            raise BundleError(f"{path}: its first column must be {name!r}; it has {', '.join(schema.names)}")

    return pa.Table.from_batches([arrow_files.read(content, path, check)])


def _add_table(commit: Commit, kind: str, table: pa.Table) -> str:
    batches = table.combine_chunks().to_batches()
    return commit.add(kind, "arrow", [arrow_files.content(batches[0])])


def _tensors(rows: Mapping[str, Path], number: int) -> Iterator[Buffer]:
    """The bytes of a file of tensors, each read from a file of its own, so that no column is ever in memory."""
    order, header = tensors.header({name: (tensors.DTYPES[COLUMNS[name]], (number,)) for name in rows})
    yield header
    for name in order:
        yield from _blocks(rows[name])


def _blocks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
