"""What an index made of its vectors, between a file and the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import BackendNotFound, BundleError, DataError, MissingExtra, UnsupportedFeature
from recs_core.contract.manifest import No
from recs_core.contract.protocols import Index, StorableIndex
from recs_core.plugin.manager import index_provider, load_index


@dataclass(frozen=True)
class Made:
    """`spec`: the index, as `load_index` takes it. `provider`: the distribution that it is of, and its version.
    `parts`: as `StorableIndex.parts`. `source`: the file of the parts, for errors."""

    spec: str
    provider: str
    parts: Mapping[str, NDArray[Any]]
    source: Path | None = None

    @classmethod
    def of(cls, index: Index, asks: str) -> Made:
        """What this index made. Raises `UnsupportedFeature` for one that is not storable."""
        storable = index.info.capabilities.get("storable")
        if not storable:
            reason = storable.reason if isinstance(storable, No) else "its manifest does not declare it"
            raise UnsupportedFeature(
                f"{asks}: index {index.info.name!r} cannot be stored: {reason}; name it where the bundle is loaded, as "
                "index= or --index, and it is built there"
            )
        held = cast(StorableIndex, index)
        return cls(held.spec, index_provider(held.spec, asked_by=asks), held.parts())

    def restored(self, vectors: NDArray[np.float32], spec: str | None = None) -> Index:
        """The index over these vectors, nothing built. `spec`: the same with other options of a search.

        Raises `BackendNotFound` with what to install, `BundleError` for parts that do not fit.
        """
        spec = self.spec if spec is None else spec
        where = str(self.source or "the index")
        try:
            index = load_index(spec, asked_by=where)
        except (BackendNotFound, MissingExtra) as error:
            distribution, _, version = self.provider.partition(" ")
            raise type(error)(
                f"{where}: holds the index {spec!r} of {distribution} {version}, which is not installed: "
                f"pip install {distribution}, or search with index='exact'"
            ) from error
        if not index.info.capabilities.get("storable"):
            raise BundleError(f"{where}: index {spec!r} as it is installed here cannot be restored; build it again")
        try:
            cast(StorableIndex, index).restore(vectors, self.parts)
        except DataError as error:
            raise BundleError(f"{where}: does not fit index {spec!r}, {error}; build it again") from error
        return index
