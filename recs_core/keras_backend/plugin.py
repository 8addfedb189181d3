"""The built-in backend's hook: the same door that every other backend uses. Imports no framework."""

from __future__ import annotations

from recs_core.environment import ENGINES
from recs_core.plugin import BackendInfo, No, hookimpl

ONE_PROCESS = No("its step runs in one process; train on the workers of keras[jax] or torch, and load the bundle here")

INFO = BackendInfo(
    name="keras",
    factory="recs_core.keras_backend.backend:create",
    summary="Keras 3 on jax, torch or tensorflow",
    requires=("keras",),
    engines=ENGINES,
    capabilities={
        "categorical": True,
        "bag": True,
        "history": True,
        "encoder_gru": True,
        "encoder_attention": True,
        "encoder_time": True,
        "numeric": True,
        "text": True,
        "vector": True,
        "dropout": True,
        "cosine": True,
        "dot": True,
        "learn_temperature": True,
        "candidate_bias": True,
        "in-batch": True,
        "uniform": True,
        "mixed": True,
        "corpus": True,
        "logq": True,
        "refined_logq": True,
        "remove_accidental_hits": True,
        "mask_positives": True,
        "score_mask": True,
        "hard_negatives": True,
        "sample_weight": True,
        "sum_reduction": True,
        "several_targets": True,
        "adagrad": True,
        "row_wise_adagrad": True,
        "lazy_adam": True,
        "dense_adam": True,
        "weight_decay": True,
        "clip_norm": True,
        "sparse_rows": True,
        "float64": True,
        "precision_bf16": No(
            "its towers compute in the model's dtype; train with precision='bf16' on torch, and load the bundle here"
        ),
        "state": True,
        "adopt": True,
        "native_loop": True,
        "distributed": True,
        "device": No(
            "Keras's engine computes on the first GPU that it finds, else on the CPU; say which it finds by "
            "CUDA_VISIBLE_DEVICES, before Python starts"
        ),
    },
    one_worker_per_process=True,
    lacks={engine: {"distributed": ONE_PROCESS} for engine in ENGINES if engine != "jax"},
)


@hookimpl
def recs_backends() -> list[BackendInfo]:
    """The manifest of `keras`."""
    return [INFO]
