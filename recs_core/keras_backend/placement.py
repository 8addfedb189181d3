"""Where the variables of a model lie: in this process, whole. `distributed.py` has another, of several workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.guard import Guard
from recs_core.contract.weights import fingerprint

Variables: TypeAlias = Mapping[str, keras.Variable]


class Placement:
    """Whole, in this process."""

    def padded(self, weight: str, value: NDArray[Any], fill: float = 0.0) -> NDArray[Any]:
        """The value of a weight, or of a slot of it, as long as its variable is."""
        return value

    def write(self, weight: str, variable: keras.Variable, value: NDArray[Any]) -> None:
        """Set a variable, of a weight or of a slot of it."""
        variable.assign(np.array(value, variable.dtype))  # a copy: an engine may keep and overwrite what it is given

    def read(self, variables: Variables) -> dict[str, NDArray[Any]]:
        """Copies of the variables, whole."""
        return {name: np.array(ops.convert_to_numpy(variable)) for name, variable in variables.items()}

    def version(self, variables: Variables) -> int:
        """What changes when a variable does. Read off them: a Keras variable does not count its writes."""
        return fingerprint(ops.convert_to_numpy(variable) for variable in variables.values())

    def moved(self) -> None:
        """The weights were written, or moved by a step."""

    def asked(self, guard: Guard) -> Guard:
        """The guard that is held where towers or the task are asked for something."""
        return guard


def cut(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array as it was before `Placement.padded`."""
    return array if array.shape == shape else array[tuple(slice(size) for size in shape)]
