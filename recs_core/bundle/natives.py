"""Towers that are a user's own module: what a bundle says of them, and who cannot load them.

A bundle holds their weights and no code. Whoever loads it builds the modules and hands them over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs_core.contract.batch import Side
from recs_core.contract.errors import BundleError
from recs_core.contract.towers import TowerSpec

if TYPE_CHECKING:
    from recs_core.adopted import Adopted


@dataclass(frozen=True)
class Native:
    """A user's own module as the manifest has it.

    `backend`: whose modules it is one of. `module`: its class, `package.module.Class`. `rebuild`: what its owner said
    builds it, `package.module:function`; for people, and never imported. `output_dim`, `raw_ids`: as in `Adopted`.
    """

    backend: str
    module: str
    rebuild: str | None
    output_dim: int
    raw_ids: bool

    @classmethod
    def of(cls, adopted: Adopted, backend: str, output_dim: int) -> Native:
        """What a bundle is to say of a module."""
        kind = type(adopted.module)
        name = f"{kind.__module__}.{kind.__qualname__}"
        return cls(backend, name, adopted.rebuild, output_dim, adopted.raw_ids)

    def to_json(self) -> dict[str, Any]:
        """As the manifest has it."""
        return asdict(self)

    def built(self, side: Side) -> str:
        """What to type for the module: the call of its function, or a name for what its owner builds."""
        return f"{side}_tower" if self.rebuild is None else f"{str(self.rebuild).replace(':', '.')}()"

    def __str__(self) -> str:
        return f"a {self.backend} module, {self.module}"


def refuse(folder: Path, natives: Mapping[Side, Native], why: str) -> None:
    """Raise `BundleError` saying which tower is a native module, why it cannot be had, and what to type."""
    side, native = next(iter(natives.items()))
    modules = ", ".join(f"{side!r}: {stated.built(side)}" for side, stated in natives.items())
    raise BundleError(
        f"{folder}: its {side} tower is {native}, {why}; build it and "
        f"recs.load({str(folder)!r}, backend={native.backend!r}, native={{{modules}}})"
    )


def adopted(
    folder: Path, natives: Mapping[Side, Native], towers: Mapping[str, TowerSpec], given: Mapping[Side, Any]
) -> dict[str, Adopted]:
    """Side → the module handed over for it. Raises `BundleError` for one that is missing or that no tower needs."""
    from recs_core.adopted import Adopted

    for side in given:
        if side not in natives:
            raise BundleError(f"{folder}: its {side} tower is no native module; leave it out of native=")
    missing = {side: native for side, native in natives.items() if side not in given}
    if missing:
        refuse(folder, natives, "whose code no bundle holds")
    return {
        side: Adopted(
            given[side],
            towers[side].features,
            output_dim=native.output_dim,
            raw_ids=native.raw_ids,
            rebuild=native.rebuild,
        )
        for side, native in natives.items()
    }
