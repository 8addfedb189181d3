"""Features as a tower reads them."""

from typing import Any

import numpy as np

from recs_core.contract.batch import Features, Ragged


def as_inputs(features: Features, dtype: str) -> dict[str, Any]:
    """Feature → its codes, a `Ragged` (one code per row is a list of one), or numbers (n, width) in `dtype`."""
    inputs: dict[str, Any] = {name: numbers.astype(dtype) for name, numbers in features.dense.items()}
    for name, codes in features.codes.items():
        inputs[name] = codes if isinstance(codes, Ragged) else Ragged.from_lengths(codes, np.ones(len(codes), np.int32))
    return inputs
