"""The core's batches as a `tf.data.Dataset`, for TFRS's own `fit`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch
from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import BatchPlan, Dataset
from recs_core.contract.weights import Side, unpack
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.model import TensorFlowModel
from recs_core_tensorflow.towers import AdoptedTower, as_inputs


def tf_dataset(data: Dataset, model: TensorFlowModel, plan: BatchPlan, *, seed: int = 42) -> Any:
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


def element(batch: Batch, model: TensorFlowModel) -> dict[str, Any]:
    """One batch as tensors."""
    return {
        "query": _features(batch, model, "query"),
        "candidate": _features(batch, model, "candidate"),
        "task": {name: tf.constant(value) for name, value in _task(batch).items()},
    }


def _features(batch: Batch, model: TensorFlowModel, side: Side) -> dict[str, Any]:
    tower = model.query if side == "query" else model.candidate
    if isinstance(tower, AdoptedTower):
        return tower.inputs(tower.unpack(batch))
    return as_inputs(unpack(batch, side, tower.spec), model.dtype)


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
