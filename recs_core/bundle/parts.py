"""The files of a bundle that is read: memory maps, looked at as arrays and ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.errors import BundleError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.storage import tensors
from recs_core.storage.files import MANIFEST, check_digest, mapped, others
from recs_core.tables import arrow_files, id_files

Arrays = Mapping[str, NDArray[Any]]


class Parts:
    """Every file that a manifest names, mapped, and of the length that it says. `names`: part → file.

    `digests`: whether to check every file's SHA-256. Raises `BundleError` for what is missing, foreign or damaged.
    """

    def __init__(self, folder: Path, files: Mapping[str, Any], names: Mapping[str, str], *, digests: bool) -> None:
        self.folder, self.names, self.manifest = folder, names, folder / MANIFEST
        _, foreign = others(folder, files)
        if foreign:
            raise BundleError(f"{folder / foreign[0]}: is no part of this bundle; move it away")
        self._maps = {name: mapped(folder / name, facts["length"]) for name, facts in files.items()}
        self._arrays: dict[str, Arrays] = {}
        self._vocabularies: dict[str, Vocabulary] = {}
        if digests:
            for name, facts in files.items():
                check_digest(folder / name, self._maps[name], facts["sha256"])

    def path(self, part: str) -> Path:
        """The file of a part."""
        return self.folder / self.names[part]

    def arrays(self, part: str) -> Arrays:
        """The arrays of a part, as views of the map."""
        if part not in self._arrays:
            self._arrays[part] = tensors.read(self._map(part), self.path(part))
        return self._arrays[part]

    def columns(self, part: str, check: Callable[[pa.Schema], None]) -> pa.RecordBatch:
        """The columns of a part, as views of the map; `check` as in `arrow_files.read`."""
        return arrow_files.read(self._map(part), self.path(part), check)

    def losses(self) -> NDArray[np.float64]:
        """(steps,): the loss of every training step."""
        found = self.arrays("history").get("losses")
        if found is None or found.dtype != np.float64 or found.ndim != 1:
            raise BundleError(f"{self.path('history')}: needs 'losses', one F64 for each step")
        return found

    def _map(self, part: str) -> mmap:
        name = self.names[part]
        if name not in self._maps:
            raise BundleError(f"{self.manifest}: {name!r} holds its {part}, but is not among its files")
        return self._maps[name]

    def vocabulary(self, name: str, column: str) -> Vocabulary:
        """The ids in a file, read once: vocabularies of the same ids share it."""
        if name not in self._maps:
            raise BundleError(f"{self.manifest}: {name!r} holds ids of {column!r}, but is not among its files")
        if name not in self._vocabularies:
            self._vocabularies[name] = id_files.read(self._maps[name], self.folder / name, column)
        return self._vocabularies[name]
