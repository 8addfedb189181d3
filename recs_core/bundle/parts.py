"""The files of a bundle that is read: memory maps, looked at as arrays and ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.distributed.rows import joined
from recs_core.storage import tensors
from recs_core.storage.files import MANIFEST, check_digest, mapped, others
from recs_core.tables import arrow_files, id_files

Arrays = Mapping[str, NDArray[Any]]

Names = str | tuple[str, ...]

SPREAD = ("weights", "state", "best")
"""The parts of which each of several workers may write its own file."""


class Parts:
    """Every file that a manifest names, mapped, and of the length that it says. `names`: part → its file, or files.

    `digests`: whether to check every file's SHA-256. Raises `BundleError` for what is missing, foreign or damaged.
    """

    def __init__(self, folder: Path, files: Mapping[str, Any], names: Mapping[str, Names], *, digests: bool) -> None:
        self.folder, self.manifest = folder, folder / MANIFEST
        self.names = {part: (of,) if isinstance(of, str) else of for part, of in names.items()}
        for part, of in self.names.items():
            if len(of) != 1 and (part not in SPREAD or not of):
                raise BundleError(f"{self.manifest}, contents: {part} is of one file, not of {len(of)}")
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
        """The file of a part, the first where workers have one each."""
        return self.folder / self.names[part][0]

    def arrays(self, part: str) -> Arrays:
        """The arrays of a part, as views of the maps; `Rows` where several files have each their rows."""
        if part not in self._arrays:
            each = [tensors.read(self._map(part, name), self.folder / name) for name in self.names[part]]
            try:
                self._arrays[part] = joined(each)
            except DataError as error:
                raise BundleError(f"{self.manifest}, contents, {part}: {error}") from error
        return self._arrays[part]

    def columns(self, part: str, check: Callable[[pa.Schema], None]) -> pa.RecordBatch:
        """The columns of a part, as views of the map; `check` as in `arrow_files.read`."""
        return arrow_files.read(self._map(part, self.names[part][0]), self.path(part), check)

    def losses(self) -> NDArray[np.float64]:
        """(steps,): the loss of every training step."""
        found = self.arrays("history").get("losses")
        if found is None or found.dtype != np.float64 or found.ndim != 1:
            raise BundleError(f"{self.path('history')}: needs 'losses', one F64 for each step")
        return found

    def _map(self, part: str, name: str) -> mmap:
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
