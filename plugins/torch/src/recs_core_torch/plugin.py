"""What the plugin says of itself. Imports no framework: listing backends must not load PyTorch."""

from __future__ import annotations

from collections.abc import Iterable

from recs_core.plugin import BackendInfo, hookimpl

INFO = BackendInfo(
    name="torch",
    factory="recs_core_torch.backend:create",
    summary="PyTorch: nn.Module towers, blocked softmax, row-sparse optimizers",
    requires=("torch",),
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
        "precision_bf16": True,
        "state": True,
        "adopt": True,
        "native_loop": True,
        "distributed": True,
        "device": True,
    },
)


@hookimpl
def recs_backends() -> Iterable[BackendInfo]:
    """The `torch` backend."""
    return [INFO]
