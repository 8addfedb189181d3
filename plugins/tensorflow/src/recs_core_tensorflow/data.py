"""Features and batches as tensors: for a tower, and as a `tf.data.Dataset` for TFRS's own `fit`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import BatchPlan, Dataset, DType
from recs_core_tensorflow.environment import tf

if TYPE_CHECKING:
    from recs_core_tensorflow.model import Model

KEEP = "/keep"
"""Where a tower's inputs hold the dropout multipliers; no feature can have this name."""
OFFSETS = "/offsets"
"""What follows the name of a feature of many codes per row, where `as_arrays` has its offsets."""


def as_inputs(features: Features, dtype: DType) -> dict[str, Any]:
    """What a tower takes: feature → codes (n,) int32, a `tf.RaggedTensor` of codes, or numbers (n, width)."""
    return with_ragged({name: tf.constant(array) for name, array in as_arrays(features, dtype).items()})


def as_arrays(features: Features, dtype: DType) -> dict[str, NDArray[Any]]:
    """The same as plain arrays, which a traced function takes: values and offsets apart."""
    out: dict[str, NDArray[Any]] = {}
    for name, codes in features.codes.items():
        if isinstance(codes, Ragged):
            out[name], out[name + OFFSETS] = codes.values, codes.offsets
        else:
            out[name] = codes
    out.update({name: numbers.astype(dtype, copy=False) for name, numbers in features.dense.items()})
    return out if features.keep is None else {**out, KEEP: features.keep.astype(dtype, copy=False)}


def with_ragged(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Values and offsets joined to ragged tensors."""
    return {
        name: tf.RaggedTensor.from_row_splits(tensor, tensors[name + OFFSETS], validate=False)
        if name + OFFSETS in tensors
        else tensor
        for name, tensor in tensors.items()
        if not name.endswith(OFFSETS)
    }


def tf_dataset(data: Dataset, model: Model, plan: BatchPlan, *, seed: int = 42) -> Any:
    """A `tf.data.Dataset` of the batches that `TwoTower.fit` would see, for `model.native.fit`.

    Each pass over it is the next epoch, from 0. An element holds "query" and "candidate" features (codes that are rows
    of whole tables, ragged where they are, and numbers) and, under "task", the arguments of `tfrs.tasks.Retrieval`.
    Raises `SpecError` for anything but in-batch negatives by interaction, which is all that TFRS's loop knows.
    """
    if plan.batch_by != "interaction" or plan.retrieval.negatives != "in-batch":
        raise SpecError(
            f"TFRS's own loop trains by interaction on in-batch negatives, the plan says batch_by={plan.batch_by!r}, "
            f"negatives={plan.retrieval.negatives!r}; use TwoTower.fit"
        )
    epochs = itertools.count()

    def elements() -> Iterator[dict[str, Any]]:
        return (element(batch, model) for batch in data.batches(plan, seed=seed, epoch=next(epochs)))

    first = element(next(iter(data.batches(plan, seed=seed, epoch=0))), model)
    return tf.data.Dataset.from_generator(elements, output_signature=tf.nest.map_structure(_any_size, first))


def element(batch: Batch, model: Model) -> dict[str, Any]:
    """One batch as tensors."""
    return {
        "query": model.query.inputs(model.query.unpack(batch)),
        "candidate": model.candidate.inputs(model.candidate.unpack(batch)),
        "task": {name: tf.constant(value) for name, value in _task(batch).items()},
    }


def _task(batch: Batch) -> dict[str, NDArray[Any]]:
    """The task's inputs under TFRS's names; positives become a score mask that keeps each query's own."""
    given = batch.task
    out: dict[str, NDArray[Any]] = {}
    if batch.bias_codes is not None:
        out["candidate_ids"] = batch.rows["task/bias"][batch.bias_codes]
    if "candidate_ids" in given:
        out["candidate_ids"] = given["candidate_ids"]
    if "candidate_sampling_probability" in given:
        out["candidate_sampling_probability"] = given["candidate_sampling_probability"].astype(np.float32)
    if "sample_weight" in given:
        out["sample_weight"] = given["sample_weight"].astype(np.float32)
    if "positives" in given or "score_mask" in given:
        size = batch.query.size
        mask = np.array(given.get("score_mask", np.ones((size, batch.candidate.size), bool)))
        if "positives" in given:
            mask[given["positives"].segments, given["positives"].values] = False
        mask[np.arange(size), np.arange(size)] = True
        out["score_mask"] = mask
    return out


def _any_size(tensor: Any) -> Any:
    """The type of a tensor of any size."""
    if isinstance(tensor, tf.RaggedTensor):
        return tf.RaggedTensorSpec([None, None], tensor.dtype, ragged_rank=1, row_splits_dtype=tensor.row_splits.dtype)
    return tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype)
