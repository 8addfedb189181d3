"""A corpus on disk: ids in Arrow, vectors in safetensors, and a manifest that holds the digest of both.

    index.json                  format, name, files: {role: {file, sha256, bytes}}
    ids-<digest>.arrow          one column, `id`
    vectors-<digest>.safetensors    one tensor, `vectors` (n, d) float32

Data files are named by their content, so writing never touches what a manifest names; replacing the manifest is the
commit. What it no longer names is removed after.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import save_file

from recs_core.errors import BundleError

FORMAT = 1
MANIFEST = "index.json"
ROLES = {"ids": ".arrow", "vectors": ".safetensors"}


@dataclass(frozen=True)
class Stored:
    """What a folder holds; `vectors` is a read-only memory map."""

    ids: pa.Array
    vectors: NDArray[np.float32]
    name: str


def save(folder: Path, ids: pa.Array, vectors: NDArray[np.float32], name: str) -> None:
    """Write, sync, then commit by replacing the manifest. Raises `BundleError` if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "ids": _write(folder, "ids", lambda path: _write_ids(path, ids)),
            "vectors": _write(
                folder, "vectors", lambda path: save_file({"vectors": np.ascontiguousarray(vectors)}, path)
            ),
        }
        manifest = {"format": FORMAT, "name": name, "files": files}
        temporary = _temporary(folder)
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
        _sync(temporary)
        os.replace(temporary, folder / MANIFEST)
        _sync(folder)
        _remove_unnamed(folder, {str(entry["file"]) for entry in files.values()})
    except OSError as error:
        raise BundleError(f"cannot write the index to {folder}: {error}") from error


def load(folder: Path) -> Stored:
    """Read and verify. Raises `BundleError` naming the file that is missing, damaged, foreign or too new."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise BundleError(f"{path} has format {manifest['format']!r}, this version reads {FORMAT}: upgrade recs-core")
        files = {role: _verified(folder, role, manifest["files"][role]) for role in ROLES}
        name = str(manifest["name"])
    except OSError as error:
        raise BundleError(f"cannot read {error.filename or path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} is not the manifest of an index: {error!r}") from error
    return Stored(_read_ids(files["ids"]), _map_vectors(files["vectors"]), name)


def _write(folder: Path, role: str, write: Callable[[Path], None]) -> dict[str, Any]:
    temporary = _temporary(folder)
    try:
        write(temporary)
        _sync(temporary)
        digest = _digest(temporary)
        entry = {"file": f"{role}-{digest[:16]}{ROLES[role]}", "sha256": digest, "bytes": temporary.stat().st_size}
        os.replace(temporary, folder / str(entry["file"]))
        return entry
    finally:
        temporary.unlink(missing_ok=True)


def _verified(folder: Path, role: str, entry: dict[str, Any]) -> Path:
    name = str(entry["file"])
    path = folder / name
    if name != f"{role}-{str(entry['sha256'])[:16]}{ROLES[role]}" or path.is_symlink():
        raise BundleError(f"{folder / MANIFEST} names {name!r}, which is no file of an index")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise BundleError(f"{path} has {size} bytes, its manifest says {entry['bytes']}: the file is damaged")
    if _digest(path) != entry["sha256"]:
        raise BundleError(f"{path} does not have the SHA-256 of its manifest: the file is damaged")
    return path


def _write_ids(path: Path, ids: pa.Array) -> None:
    table = pa.table({"id": ids})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_ids(path: Path) -> pa.Array:
    try:
        with pa.OSFile(str(path)) as source:
            column = pa.ipc.open_file(source).read_all().column("id")
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    except (pa.ArrowException, KeyError) as error:
        raise BundleError(f"{path} does not hold the ids of an index: {error}") from error


def _map_vectors(path: Path) -> NDArray[np.float32]:
    """The tensor as it lies in the file: 8 bytes of header length, the header, then little-endian numbers."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(min(length, path.stat().st_size)))["vectors"]
        if entry["dtype"] != "F32":
            raise ValueError(f"dtype {entry['dtype']}, not F32")
        rows, dim = entry["shape"]
        if rows * dim == 0:
            return np.empty((rows, dim), np.float32)
        begin = 8 + length + entry["data_offsets"][0]
        return np.memmap(path, np.dtype("<f4"), "r", offset=begin, shape=(rows, dim))
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} does not hold the vectors of an index: {error!r}") from error


def _temporary(folder: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=folder)
    os.close(handle)
    return Path(name)


def _remove_unnamed(folder: Path, named: set[str]) -> None:
    for path in folder.iterdir():
        ours = path.name.startswith(".writing-") or any(path.match(f"{role}-*{end}") for role, end in ROLES.items())
        if ours and path.name not in named:
            path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
