"""What a bundle holds → a model on a backend. Below `TwoTower`, which resumes by it, and `recs.load`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import numpy as np

from recs_core.bundle import Stored, Towers, golden, read
from recs_core.bundle.reading import making_sense
from recs_core.config import group_of
from recs_core.contract.as_json import Custom
from recs_core.contract.batch import Side
from recs_core.contract.errors import BundleError, DataError
from recs_core.fitted import Native
from recs_core.spread import answering

if TYPE_CHECKING:
    from recs_core.adopted import Adopted
    from recs_core.contract.protocols import Backend, Index
    from recs_core.recommender import Recommender
    from recs_core.two_tower import TwoTower

    Model = TypeVar("Model", bound=TwoTower)

log = logging.getLogger("recs_core")


def opened(path: str | Path, *, custom: Sequence[Custom] = (), verify: bool = True, progress: bool = True) -> Stored:
    """As `recs_core.bundle.read`; what a save that was cut off left behind is said."""
    stored = read(path, custom=custom, verify=verify, progress=progress, asks="load")
    for name in stored.info.leftovers:
        log.warning(
            "%s: left over from a save that was cut off; ignored, and removed by the next save", stored.info.path / name
        )
    return stored


def on_backend(kind: type[Model], stored: Stored, backend: str | Backend | None, modules: Mapping[Side, Any]) -> Model:
    """A model of this class that trains on. `modules`: those of native towers. Raises `BundleError` as `recs.load`."""
    folder, natives = stored.info.path, stored.fitted.natives
    if not natives and not modules:
        with making_sense(folder):
            return kind.of(stored.fitted, backend=backend)
    from recs_core.config import select

    name = select(backend).name if backend is None or isinstance(backend, str) else backend.info.name
    if any(native.backend != name for native in natives.values()):
        refuse(folder, natives, f"which the {name} backend cannot run")
    adopted = _adopted(stored, modules)
    try:
        return kind.of(stored.fitted, backend=backend, natives=adopted)
    except DataError as error:
        weights = folder / stored.info.stated.files_of("weights")[0]
        raise BundleError(f"{weights}: does not fit the module given in native=, {error}") from error


def resumed(
    kind: type[Model],
    checkpoint: str | Path,
    backend: str | Backend | None,
    modules: Mapping[Side, Any],
    custom: Sequence[Custom],
) -> Model:
    """A model of this class whose run, as the checkpoint holds it, `fit` finishes. Raises as `TwoTower.resume`."""
    stored = opened(checkpoint, custom=custom)
    progress = stored.fitted.progress
    if progress is None or progress.run is None or progress.state is None:
        raise BundleError(f"{checkpoint}: holds no run to finish; recs.load it and fit with epochs= to train on")
    model = on_backend(kind, stored, backend, modules)
    replay(stored, model, model.backend.info.name)
    if model.run is not None and not model.run.open:
        model.run.open, model.run.until = True, model.position.epoch
    return model


def stored_index(stored: Stored) -> Index | None:
    """The index that a bundle holds, over its stored vectors; None where it holds none. Nothing is built.

    Raises `BackendNotFound` with what to install, `BundleError` for an index that does not fit its vectors.
    """
    if stored.index is None or stored.vectors is None:
        return None
    return stored.index.restored(stored.vectors.astype(np.float32, copy=False))


def replay(stored: Stored, model: Recommender, by: str) -> None:
    """Ask the golden queries. Raises `BundleError` if the model answers otherwise; `by` names who answered."""

    def asked() -> None:
        with making_sense(stored.info.path), np.errstate(all="ignore"):  # absurd numbers give scores that are noticed
            golden.replay(stored.golden, stored.fitted, towers, stored.golden_file, by)

    group = group_of(getattr(model, "backend", None))
    if group is None:
        towers = Towers(model.query_tower, model.candidate_tower, getattr(model, "vectors", None))
        asked()
    else:  # nobody holds the model whole: its files answer, and on each worker its modules
        towers = answering(cast("TwoTower", model), stored.fitted)
        group.told(asked, "the golden queries")


def refuse(folder: Path, natives: Mapping[Side, Native], why: str) -> NoReturn:
    """Raise `BundleError` saying which tower is a native module, why it cannot be had, and what to type."""
    side, native = next(iter(natives.items()))
    modules = ", ".join(f"{side!r}: {stated.built(side)}" for side, stated in natives.items())
    raise BundleError(
        f"{folder}: its {side} tower is {native}, {why}; build it and "
        f"recs.load({str(folder)!r}, backend={native.backend!r}, native={{{modules}}})"
    )


def _adopted(stored: Stored, given: Mapping[Side, Any]) -> dict[Side, Adopted]:
    """Side → the module handed over for it. Raises `BundleError` for one that is missing or that no tower needs."""
    from recs_core.adopted import Adopted

    folder, natives = stored.info.path, stored.fitted.natives
    for side in given:
        if side not in natives:
            raise BundleError(f"{folder}: its {side} tower is no native module; leave it out of native=")
    missing = {side: native for side, native in natives.items() if side not in given}
    if missing:
        refuse(folder, missing, "whose code no bundle holds")
    return {
        side: Adopted(
            given[side],
            getattr(stored.fitted.declared, side).features,
            output_dim=native.output_dim,
            raw_ids=native.raw_ids,
            rebuild=native.rebuild,
        )
        for side, native in natives.items()
    }
