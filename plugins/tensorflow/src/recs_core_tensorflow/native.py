"""TFRS's own words with our meanings: a `tfrs.tasks.Retrieval` for TFRS programs, a whole model as a `tfrs.Model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.data.epochs import check_tables
from recs_core_tensorflow import kernel
from recs_core_tensorflow.adopted import naming_shapes
from recs_core_tensorflow.data import without_dropout
from recs_core_tensorflow.environment import tf, tfrs
from recs_core_tensorflow.kernel import normalised

if TYPE_CHECKING:
    from recs_core_tensorflow.model import Model


class TFRSRetrieval(tfrs.tasks.Retrieval):
    """`tfrs.tasks.Retrieval` with the meanings of a `RetrievalSpec`, for a TFRS loop by interaction, in float32.

    Cosine, temperature, bias and correction are folded into the embeddings handed to TFRS, query [x/τ ; 1] and
    candidate [y ; b − log q], so that q has no floor at 1e-6; a mean is a sum with weights that add up to one.

    `metrics`, `batch_metrics`, `loss_metrics` as in TFRS. The candidates that `metrics` rank are [y ; b], without a
    bias y alone: the tower's output, normalised where scoring is "cosine".

    Raises `UnsupportedFeature` for what TFRS's task cannot say; `RetrievalTask` can.
    """

    def __init__(
        self,
        spec: RetrievalSpec,
        bias: Any = None,
        log_temperature: Any = None,
        *,
        metrics: Any = None,
        batch_metrics: list[Any] | None = None,
        loss_metrics: list[Any] | None = None,
        name: str | None = None,
    ) -> None:
        if spec.negatives != "in-batch":
            raise UnsupportedFeature(
                f"tfrs.tasks.Retrieval knows negatives='in-batch', not {spec.negatives!r}; use RetrievalTask"
            )
        if spec.logq == "refined":
            raise UnsupportedFeature(
                "tfrs.tasks.Retrieval corrects the positive as well; logq='refined' needs RetrievalTask"
            )
        super().__init__(
            metrics=metrics,
            batch_metrics=batch_metrics,
            loss_metrics=loss_metrics,
            num_hard_negatives=spec.hard_negatives,
            remove_accidental_hits=spec.masks_hits,
            name=name,
        )
        self.spec = spec
        self._bias, self._log_temperature = bias, log_temperature

    def call(
        self,
        query_embeddings: Any,
        candidate_embeddings: Any,
        sample_weight: Any = None,
        candidate_sampling_probability: Any = None,
        candidate_ids: Any = None,
        compute_metrics: bool = True,
        compute_batch_metrics: bool = True,
        score_mask: Any = None,
    ) -> Any:
        """The loss, a scalar. `candidate_ids` are corpus codes where there is a bias; the rest is as in TFRS.

        `query_embeddings` (Q, d), or (Q, heads, d), of which the best head counts; `metrics` are not updated for these.
        """
        spec = self.spec
        query, candidate = tf.convert_to_tensor(query_embeddings), tf.convert_to_tensor(candidate_embeddings)
        if spec.scoring == "cosine":
            query, candidate = normalised(query), normalised(candidate)
        temperature = self._log_temperature
        query = query / spec.temperature if temperature is None else query * tf.exp(-temperature)
        bias = self._bias_of(candidate, candidate_ids)
        updates = []
        if compute_metrics and query.shape.rank == 2:
            updates = self._update_metrics(query, candidate, bias, candidate_ids, sample_weight)
        added = tf.zeros_like(candidate[:, 0]) if bias is None else bias
        if spec.corrects:
            if candidate_sampling_probability is None:
                raise SpecError("logq=True needs candidate_sampling_probability (or logq=False)")
            added -= tf.math.log(tf.cast(candidate_sampling_probability, candidate.dtype))
        weight = sample_weight
        if spec.reduction == "mean":
            weight = tf.ones(tf.shape(query)[:1]) if weight is None else tf.cast(weight, query.dtype)
            weight = tf.math.divide_no_nan(weight, tf.reduce_sum(weight))
        loss = super().call(
            _lengthened(query, tf.ones_like(query[..., 0])),
            _lengthened(candidate, added),
            sample_weight=weight,
            candidate_ids=candidate_ids,
            compute_metrics=False,
            compute_batch_metrics=compute_batch_metrics,
            score_mask=score_mask,
        )
        with tf.control_dependencies(updates):
            return tf.identity(loss)

    def _bias_of(self, candidate: Any, candidate_ids: Any) -> Any:
        if self._bias is None:
            return None
        if candidate_ids is None:
            raise SpecError("candidate_bias=True needs candidate_ids, the code of each candidate column")
        return tf.cast(tf.gather(self._bias, candidate_ids), candidate.dtype)

    def _update_metrics(self, query: Any, candidate: Any, bias: Any, candidate_ids: Any, weight: Any) -> list[Any]:
        """Rank each query's own candidate, column i of row i; columns beyond the queries are negatives only."""
        if bias is not None:
            query, candidate = _lengthened(query, tf.ones_like(query[:, 0])), _lengthened(candidate, bias)
        number = tf.shape(query)[0]
        ids = None if candidate_ids is None else candidate_ids[:number]
        return [
            metric.update_state(query, candidate[:number], true_candidate_ids=ids, sample_weight=weight)
            for metric in self.factorized_metrics
        ]


def _lengthened(vectors: Any, column: Any) -> Any:
    """(…, d + 1) from (…, d) and (…)."""
    return tf.concat([vectors, column[..., None]], axis=-1)


class TFRSModel(tfrs.Model):
    """A `tfrs.Model` on a model's variables, with the loss of `TwoTower.fit`. Its batches: `tf_dataset`."""

    def __init__(self, model: Model) -> None:
        super().__init__(name="two_tower", dtype=model.dtype)
        self.retrieval = model.retrieval
        self._towers = {"query": model.query, "candidate": model.candidate}
        self.query_tower, self.candidate_tower = model.query.native, model.candidate.native
        self.bias = model.variables.get("task/bias")
        self.log_temperature = model.variables.get("task/log_temperature")
        self._table_rows = {name: v.shape[0] for name, v in model.variables.items() if name.startswith("table/")}

    def compile(self, optimizer: Any = "rmsprop", **settings: Any) -> None:
        """As of `tf.keras.Model`. Raises `UnsupportedFeature` for what TFRS's step cannot do: float64, and mixed
        precision, of which it does not scale the loss."""
        if self.dtype != "float32":
            raise UnsupportedFeature(
                f"TFRS's own step computes in float32, the model is in {self.dtype}; use TwoTower.fit, or "
                "compute_loss in a loop of your own"
            )
        policy = tf.keras.mixed_precision.global_policy().name
        if policy.startswith("mixed"):
            raise UnsupportedFeature(
                f"model.native trains in float32, not {policy}; first call "
                "tf.keras.mixed_precision.set_global_policy('float32')"
            )
        if isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
            raise UnsupportedFeature("model.native scales no loss; compile it with the LossScaleOptimizer's inner one")
        super().compile(optimizer=optimizer, **settings)

    def fit(self, x: Any = None, *args: Any, **settings: Any) -> Any:
        """As of `tf.keras.Model`; `x`: what `tf_dataset` gives. Raises `DataError` for a data set of another model."""
        if isinstance(spec := getattr(x, "element_spec", None), Mapping) and "rows" in spec:
            self._check_tables(spec["rows"])  # here: an error within the graph comes out as AutoGraph's
        with naming_shapes():
            return super().fit(x, *args, **settings)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> tuple[Any, Any]:
        """Query and candidate embeddings of a batch."""
        query, candidate = (
            tower.forward(inputs[side] if training else without_dropout(inputs[side]), training)
            for side, tower in self._towers.items()
        )
        return query, candidate

    def compute_loss(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """The loss of a batch, a scalar. Raises `DataError` for a batch that was made for a model of other tables."""
        self._check_tables(inputs["rows"])
        query, candidate = self(inputs, training=training)
        bias = tf.gather(self.bias, inputs["bias"]["codes"]) if inputs["bias"] else None
        return kernel.loss(self.retrieval, inputs["plan"], query, candidate, bias, self.log_temperature)

    def _check_tables(self, sized: Mapping[str, Any]) -> None:
        made_for = {name: tensor.shape[0] for name, tensor in sized.items()}
        cure = "make a dataset of this model with tf_dataset"
        check_tables(self._table_rows, made_for, "the model", "the batch is", cure)
