"""The built-in backend: Keras 3 on the torch, tensorflow or jax engine.

`keras.ops` holds the model and the task; `engines/` holds what Keras has no common word for: gradients, gathers and
scatters in place, compilation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from recs_core import Interactions, TwoTower
    from recs_core.contract.training import BatchSettings
    from recs_core.keras_backend.loop import Batches

__all__ = ["batches"]


def batches(
    model: TwoTower, train: Interactions, *, epoch: int | None = None, **settings: Unpack[BatchSettings]
) -> Batches:
    """A `keras.utils.PyDataset` of the batches that `model.fit(train)` would train on, for `fit` of Keras:

        >>> from recs_core.keras_backend import batches
        >>> given = batches(model, train, batch_size=512)
        >>> model.model.native.compile(keras.optimizers.Adam(2e-3))
        >>> history = model.model.native.fit(given, epochs=3, verbose=0)

    Each pass over it is the next epoch. `epoch`: where to begin, from 0; None: after those that `fit` has done.
    `settings`: as in `TwoTower.epochs`, which says what is raised; `SpecError` also for a model of another backend, or
    where the data stands before the model.
    """
    from recs_core.data.epochs import epochs_of

    epochs = epochs_of(model, train, epoch, settings, asked="batches", backend="keras")
    from recs_core.keras_backend.loop import Batches  # Keras, which by now has the engine that the model chose

    return Batches(model.model, epochs)  # type: ignore[arg-type]
