"""The built-in backend: Keras 3 on the torch, tensorflow or jax engine.

`keras.ops` holds the model and the task; `engines/` holds what Keras has no common word for: gradients, gathers and
scatters in place, compilation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recs_core.keras_backend.loop import batches

__all__ = ["batches"]


def __getattr__(name: str) -> Any:
    if name != "batches":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recs_core.keras_backend.loop import batches

    return batches
