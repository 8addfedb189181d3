"""A bundle that several workers write together: each its own rows, worker 0 all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recs_core.bundle.progress import arrays_of
from recs_core.contract.weights import Weights
from recs_core.distributed.rows import joined, share_of
from recs_core.fitted import Fitted
from recs_core.storage import tensors
from recs_core.storage.commit import Commit, committing
from recs_core.storage.files import mapped


@dataclass(frozen=True)
class Share:
    """What one worker wrote: part → its file, and of each file its length and SHA-256."""

    parts: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]


def make_ready(folder: Path) -> None:
    """The folder, where workers may write from now on. Raises `BundleError` as `committing`."""
    with committing(folder):
        pass


def write_share(folder: Path, fitted: Fitted, rank: int, size: int) -> Share:
    """Write what worker `rank` of `size` has of the model to a folder that is ready; no bundle names it yet.

    Of what lies in rows, `fitted` needs this worker's alone. Raises `BundleError` for a type that the format
    lacks, numbers that are not finite, and where the disk fails.
    """
    commit, parts = Commit(folder, None, f".{rank}"), {}
    for part, arrays in arrays_of(fitted).items():
        own = share_of(arrays, rank, size)
        tensors.check_dtypes(folder, own)
        tensors.check_finite(folder, own)
        parts[part] = commit.add(part, "safetensors", tensors.pieces(own))
    return Share(parts, commit.files)


def weights_of(folder: Path, shares: Sequence[Share]) -> Weights:
    """The weights that all workers wrote, as views of their files."""
    each = []
    for share in shares:
        name = share.parts["weights"]
        each.append(tensors.read(mapped(folder / name, share.files[name]["length"]), folder / name))
    return joined(each)
