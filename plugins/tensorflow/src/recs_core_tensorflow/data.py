"""Features and batches as tensors: for a tower, and as a `tf.data.Dataset` of what `fit` would train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged, Sequences
from recs_core.contract.lanes import Lanes
from recs_core.contract.protocols import DType
from recs_core.contract.task import plan_task
from recs_core.contract.training import BatchSettings
from recs_core.data.epochs import Epochs, epochs_of
from recs_core_tensorflow import kernel
from recs_core_tensorflow.environment import tf

if TYPE_CHECKING:
    from recs_core import Interactions, TwoTower
    from recs_core_tensorflow.model import Model

KEEP = "/keep"
"""Where a tower's inputs hold the dropout multipliers; no feature can have this name."""
OFFSETS = "/offsets"
"""What follows the name of a feature of many codes per row, where `as_arrays` has its offsets."""
LANES = "/lanes/"
"""What stands between the name of a history with an encoder and that of an array of its `Lanes`."""


def as_inputs(features: Features, dtype: DType) -> dict[str, Any]:
    """What a tower takes: feature → codes (n,) int32, a `tf.RaggedTensor` of codes, the `Lanes` of histories with an
    encoder as a dict, or numbers (n, width)."""
    return joined({name: tf.constant(array) for name, array in as_arrays(features, dtype).items()})


def as_arrays(features: Features, dtype: DType) -> dict[str, NDArray[Any]]:
    """The same as plain arrays, which a traced function takes: values and offsets, and the arrays of lanes, apart."""
    out: dict[str, NDArray[Any]] = {}
    for name, codes in features.codes.items():
        if isinstance(codes, Sequences):
            lanes = Lanes.of(codes).arrays
            masks = lanes.pop("keep")
            out |= {f"{name}{LANES}{part}": array for part, array in lanes.items()}
            out |= {f"{name}{LANES}{KEEP}{part}": mask for part, mask in masks.items()}
        elif isinstance(codes, Ragged):
            out[name], out[name + OFFSETS] = codes.values, codes.offsets
        else:
            out[name] = codes
    out.update({name: numbers.astype(dtype, copy=False) for name, numbers in features.dense.items()})
    return out if features.keep is None else {**out, KEEP: features.keep.astype(dtype, copy=False)}


def joined(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What `as_arrays` took apart, as `as_inputs` has it."""
    out: dict[str, Any] = {}
    for name, tensor in tensors.items():
        feature, lanes, part = name.partition(LANES)
        if lanes:
            of = out.setdefault(feature, {"keep": {}})
            (of["keep"] if part.startswith(KEEP) else of)[part.removeprefix(KEEP)] = tensor
        elif name + OFFSETS in tensors:
            out[name] = tf.RaggedTensor.from_row_splits(tensor, tensors[name + OFFSETS], validate=False)
        elif not name.endswith(OFFSETS):
            out[name] = tensor
    return out


def without_dropout(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A tower's inputs without the masks of a training step."""
    return {
        name: {**value, "keep": {}} if isinstance(value, Mapping) else value
        for name, value in inputs.items()
        if name != KEEP
    }


def tf_dataset(
    model: TwoTower, train: Interactions, *, epoch: int | None = None, **settings: Unpack[BatchSettings]
) -> Any:
    """A `tf.data.Dataset` of the batches that `model.fit(train)` would train on, for `fit` of Keras:

        >>> from recs_core_tensorflow import tf_dataset
        >>> batches = tf_dataset(model, train, batch_size=512)
        >>> model.model.native.compile(tf.keras.optimizers.Adam(2e-3))
        >>> history = model.model.native.fit(batches, epochs=3, verbose=0)

    Its cardinality is the number of batches of an epoch; each pass over it is the next epoch. In a loop of one's own,
    `model.model.native.compute_loss(batch, training=True)` is a batch's loss. A batch holds the features of "query" and
    "candidate" (codes that are rows of whole tables, ragged where they are, and numbers), and what the loss reads.

    `epoch`: where to begin, from 0; None: after those that `fit` has done. `settings`: as in `TwoTower.epochs`, which
    says what is raised; `SpecError` also for a model of another backend, or where the data stands before the model.
    """
    epochs = epochs_of(model, train, epoch, settings, asked="tf_dataset", backend="tensorflow")
    elements = _Elements(epochs, model.model)  # type: ignore[arg-type]
    signature = tf.nest.map_structure(_any_size, elements.of(epochs.batch(epochs.epoch, 0)))
    signature["rows"] = {name: tf.TensorSpec([number, 0]) for name, number in elements.rows.items()}
    dataset = tf.data.Dataset.from_generator(lambda: map(elements.of, epochs), output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(epochs))).prefetch(2)


class _Elements:
    """Batches as what `TFRSModel` reads. `rows`: of each table of the model that they are made for, as sizes of tensors
    without numbers: so they are known wherever the dataset's structure is, and a graph need not look at them."""

    def __init__(self, epochs: Epochs, model: Model) -> None:
        self.model, self.rows, self.general = model, epochs.table_rows, epochs.plans_differ

    def of(self, batch: Batch) -> dict[str, Any]:
        """One batch as tensors."""
        model = self.model
        plan = plan_task(model.retrieval, batch.query.size, batch.candidate.size, **batch.task)
        bias = {} if batch.bias_codes is None else {"codes": batch.rows["task/bias"][batch.bias_codes]}
        return {
            "query": model.query.inputs(model.query.unpack(batch)),
            "candidate": model.candidate.inputs(model.candidate.unpack(batch)),
            "plan": kernel.pack(plan, model.dtype, general=self.general),
            "bias": bias,
            "rows": {name: np.zeros((number, 0), np.float32) for name, number in self.rows.items()},
        }


def _any_size(value: Any) -> Any:
    """The type of an array or tensor of any size."""
    if isinstance(value, tf.RaggedTensor):
        return tf.RaggedTensorSpec([None, None], value.dtype, ragged_rank=1, row_splits_dtype=value.row_splits.dtype)
    return tf.TensorSpec([None] * len(value.shape), value.dtype)
