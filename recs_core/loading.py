"""A bundle → a model: on a backend, or on NumPy alone. Above both, and above the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recs_core.bundle import BundleInfo, Stored
from recs_core.bundle.reading import making_sense
from recs_core.contract.as_json import Custom
from recs_core.contract.batch import Side
from recs_core.contract.errors import BundleError
from recs_core.elsewhere import knows_its_arguments
from recs_core.restoring import on_backend, opened, refuse, replay

if TYPE_CHECKING:
    from recs_core.contract.protocols import Backend, Index
    from recs_core.recommender import Recommender


@knows_its_arguments("load")
def load(
    path: str | Path,
    *,
    backend: str | Backend | None = None,
    device: str | None = None,
    runtime: Literal["numpy"] | None = None,
    native: Mapping[Side, Any] | None = None,
    custom: Sequence[Custom] = (),
    index: Index | str | None = None,
    verify: bool = True,
) -> Recommender:
    """The model in a bundle or checkpoint.

    On a backend (by default the selected one) it is a `TwoTower`, which trains on from the saved optimizer state, on
    this `device` (as in `TwoTower`) wherever it was before. With `runtime="numpy"` it is a `Recommender` that imports
    no framework and reads weights from a memory map. `native`: "query" or "candidate" → the module, built again, of a
    tower that is a user's own; it takes over the saved weights.
    `custom`: classes of your own, of features or of an optimizer; nothing that a bundle names is imported.
    `index`: an `Index`, or the name of an installed one, for `recommend`; by default every candidate is scored.
    `verify`: check every file's digest, that all weights are finite, and that this backend gives the golden queries'
    answers.

    Raises `BundleError` with the file and the reason for a bundle that is damaged, cut off, foreign or from a newer
    version, or has a native tower and not what that needs; `BackendNotFound` and its kin for the backend.
    """
    if runtime not in (None, "numpy"):
        raise BundleError(f"runtime is 'numpy' or None, got {runtime!r}; a framework is named by backend=")
    if runtime is not None and backend is not None:
        raise BundleError(f"runtime={runtime!r} and backend={backend!r}: name one of them")
    if runtime is not None and device is not None:
        raise BundleError(f"runtime={runtime!r} runs on the CPU; leave device={device!r} out, or name a backend=")
    if native is not None and not isinstance(native, Mapping):
        raise BundleError(f"native: expected {{'query': module}}, got {type(native).__name__}")
    if runtime is not None and native:
        raise BundleError(f"runtime={runtime!r} runs no module of yours; name a backend= for native=")
    if device is not None:
        from recs_core.config import placed

        backend = placed(backend, device)
    stored = opened(path, custom=custom, verify=verify, progress=runtime is None)
    model, by = on_numpy(stored) if runtime == "numpy" else _on_backend(stored, backend, native or {})
    if index is not None:
        from recs_core.index.filtered import resolve

        resolve(index)  # so that an unknown name is said now
        model.index = index
    if verify:
        replay(stored, model, by)
    return model


def verify(path: str | Path, *, custom: Sequence[Custom] = ()) -> BundleInfo:
    """Check everything: digests, names, dtypes, shapes, finiteness, codes, golden queries (by NumPy).

    `custom` as in `load`. Where a tower is a user's own module, which NumPy cannot run, the golden queries wait for
    `load`. Raises `BundleError` with the file and the reason.
    """
    from recs_core.bundle import read

    stored = read(path, custom=custom, asks="verify")
    if not stored.info.needed:
        replay(stored, *on_numpy(stored))
    return stored.info


def on_numpy(stored: Stored) -> tuple[Recommender, str]:
    """A model that needs NumPy alone, and who it answers by. Raises `BundleError` where a tower is a user's module."""
    from recs_core.runtime import NumpyRecommender

    if stored.info.needed:
        refuse(stored.info.path, stored.info.needed, "which NumPy cannot run")
    with making_sense(stored.info.path):
        return NumpyRecommender(stored.fitted, stored.vectors), "NumPy"


def _on_backend(stored: Stored, backend: str | Backend | None, native: Mapping[Side, Any]) -> tuple[Recommender, str]:
    """A model that trains on, and who it answers by."""
    from recs_core.two_tower import TwoTower

    model = on_backend(TwoTower, stored, backend, native)
    return model, model.backend.info.name
