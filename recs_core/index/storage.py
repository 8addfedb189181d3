"""A corpus on disk, with the manifest, digests and crash safety of a bundle: ids in Arrow, vectors in safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.bundle import files, ids, manifest, tensors
from recs_core.data.vocabulary import Vocabulary
from recs_core.errors import BundleError

KIND = "index"
CARD = """# Index: {name}

{rows:,} candidates of {dim} numbers each. To search it:

    from recs_core.index import CandidateIndex
    CandidateIndex.load("path of this folder").search(queries, k=10)
"""


def save(folder: Path, vocabulary: Vocabulary, vectors: NDArray[np.float32]) -> None:
    """Write and sync, then commit by replacing the manifest. Raises `BundleError` if the folder cannot be written."""
    if (folder / files.MANIFEST).exists():
        _read_manifest(folder)  # a model's bundle is not overwritten with an index
    rows, dim = vectors.shape
    with files.committing(folder) as commit:
        parts = {
            "ids": commit.add("ids", "arrow", [ids.content(vocabulary)]),
            "vectors": commit.add("vectors", "safetensors", tensors.pieces({"vectors": vectors})),
        }
        fields = {"kind": KIND, "name": vocabulary.name, "parts": parts, "files": commit.files}
        commit.finish(manifest.encode(fields), CARD.format(name=vocabulary.name, rows=rows, dim=dim))


def load(folder: Path) -> tuple[Vocabulary, NDArray[np.float32]]:
    """Ids, and vectors as a read-only memory map. Raises `BundleError` naming what is missing, damaged or foreign."""
    fields = _read_manifest(folder)
    found = {}
    for part in ("ids", "vectors"):
        name = fields["parts"][part]
        facts = fields["files"][name]
        content = files.mapped(folder / name, facts["length"])
        files.check_digest(folder / name, content, facts["sha256"])
        found[part] = (content, folder / name)
    vocabulary = ids.read(*found["ids"], fields["name"])
    arrays = tensors.read(*found["vectors"])
    if set(arrays) != {"vectors"} or arrays["vectors"].dtype != np.float32 or arrays["vectors"].ndim != 2:
        raise BundleError(f"{found['vectors'][1]}: needs one array, vectors, of float32 numbers in two dimensions")
    return vocabulary, arrays["vectors"]


def _read_manifest(folder: Path) -> dict[str, Any]:
    _, fields = manifest.read(folder)
    parts = fields.get("parts")
    if fields.get("kind") != KIND or not isinstance(parts, dict) or set(parts) != {"ids", "vectors"}:
        raise BundleError(f"{folder / files.MANIFEST}: is the manifest of another kind of bundle, not of an index")
    if not set(parts.values()) <= set(fields["files"]) or not isinstance(fields.get("name"), str):
        raise BundleError(f"{folder / files.MANIFEST}: does not name the files of its parts")
    return fields
