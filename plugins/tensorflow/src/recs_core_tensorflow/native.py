"""A model in TFRS's own words, for `fit` in its own way: a `tfrs.tasks.Retrieval` with our meanings, a `tfrs.Model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.retrieval import RetrievalSpec
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
                f"TFRS's own loop trains with negatives='in-batch', not {spec.negatives!r}; use TwoTower.fit"
            )
        if spec.logq == "refined":
            raise UnsupportedFeature(
                "tfrs.tasks.Retrieval corrects the positive as well, so logq='refined' needs TwoTower.fit"
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
    """A `tfrs.Model` on a model's variables. Its batches are those of `recs_core_tensorflow.data.tf_dataset`."""

    def __init__(self, model: Model) -> None:
        super().__init__(name="two_tower")
        if model.dtype != "float32":
            raise SpecError("TFRS's own task computes in float32; build the model with dtype='float32'")
        self._towers = {"query": model.query, "candidate": model.candidate}
        self.query_tower, self.candidate_tower = model.query.native, model.candidate.native
        self.task = TFRSRetrieval(
            model.retrieval, model.variables.get("task/bias"), model.variables.get("task/log_temperature")
        )
        self._own = [variable for name, variable in model.variables.items() if name.startswith("task/")]

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> tuple[Any, Any]:
        """Query and candidate embeddings of a batch."""
        query, candidate = (tower.forward(inputs[side], training) for side, tower in self._towers.items())
        return query, candidate

    def compute_loss(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """The loss of a batch: "query" and "candidate" features and, under "task", the task's arguments."""
        query, candidate = self(inputs, training=training)
        return self.task(query, candidate, **inputs["task"])
