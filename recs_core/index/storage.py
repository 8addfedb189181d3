"""A corpus on disk, with the manifest, digests and crash safety of a bundle: ids in Arrow, vectors in safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import BundleError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.index.made import Made
from recs_core.storage import files, manifest, tensors
from recs_core.storage.commit import committing
from recs_core.storage.known import known
from recs_core.tables import id_files

KIND = "index"
CARD = """# Index: {name}

{rows:,} candidates of {dim} numbers each. To search it:

    from recs_core.index import CandidateIndex
    CandidateIndex.load("path of this folder").search(queries, k=10)
"""


def save(folder: Path, vocabulary: Vocabulary, vectors: NDArray[np.float32], made: Made | None) -> None:
    """Write and sync, then commit by replacing the manifest. Raises `BundleError` if the folder cannot be written."""
    if (folder / files.MANIFEST).exists():
        _read_manifest(folder)  # a model's bundle is not overwritten with an index
    rows, dim = vectors.shape
    with committing(folder) as commit:
        parts = {
            "ids": commit.add("ids", "arrow", [id_files.content(vocabulary)]),
            "vectors": commit.add("vectors", "safetensors", tensors.pieces({"vectors": vectors})),
        }
        fields: dict[str, Any] = {"kind": KIND, "name": vocabulary.name, "parts": parts, "files": commit.files}
        if made is not None:
            tensors.check_dtypes(folder, made.parts)
            parts["index"] = commit.add("index", "safetensors", tensors.pieces(made.parts))
            fields["index"] = {"spec": made.spec, "provider": made.provider}
        card = CARD.format(name=vocabulary.name, rows=rows, dim=dim)
        commit.finish(manifest.encode(folder, fields), card.encode())


def load(folder: Path) -> tuple[Vocabulary, NDArray[np.float32], Made | None]:
    """Ids, vectors as a read-only memory map, and what an index made of them, where one was saved. Raises `BundleError`
    naming what is missing, damaged or foreign."""
    stated, files_named = _read_manifest(folder)
    found = {}
    for part, name in stated.parts.named.items():
        facts = files_named[name]
        content = files.mapped(folder / name, facts["length"])
        files.check_digest(folder / name, content, facts["sha256"])
        found[part] = (content, folder / name)
    vocabulary = id_files.read(*found["ids"], stated.name)
    arrays = tensors.read(*found["vectors"])
    if set(arrays) != {"vectors"} or arrays["vectors"].dtype != np.float32 or arrays["vectors"].ndim != 2:
        raise BundleError(
            f"{found['vectors'][1]}: needs one array, vectors, of float32 numbers in two dimensions; save the index "
            "again"
        )
    if stated.index is None:
        return vocabulary, arrays["vectors"], None
    content, path = found["index"]
    made = Made(stated.index.spec, stated.index.provider, tensors.read(content, path), path)
    return vocabulary, arrays["vectors"], made


@dataclass(frozen=True)
class _Parts:
    ids: str
    vectors: str
    index: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Part → file, of those that are there."""
        return {part: file for part, file in vars(self).items() if file is not None}


@dataclass(frozen=True)
class _IndexStated:
    spec: str
    provider: str


@dataclass(frozen=True)
class _Stated:
    name: str
    parts: _Parts
    index: _IndexStated | None = None


def _read_manifest(folder: Path) -> tuple[_Stated, dict[str, Any]]:
    """What the manifest states, and the files that it names."""
    path, (_, fields) = folder / files.MANIFEST, manifest.read(folder)
    if fields.get("kind") != KIND:
        raise BundleError(
            f"{path}: is the manifest of another kind of bundle, not of an index; recs.load reads a model's, and an "
            "index is saved to a folder of its own"
        )
    stated = known(_Stated, fields, str(path))
    named = stated.parts.named
    if not set(named.values()) <= set(fields["files"]) or (stated.index is not None) != ("index" in named):
        raise BundleError(f"{path}: does not name the files of its parts; save the index again")
    return stated, fields["files"]
