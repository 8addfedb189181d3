"""What this backend says of itself, through the hook that every backend uses."""

from recs_core.contract.errors import UnsupportedFeature
from recs_core.plugin import BackendInfo, No, hookimpl

LACKS = {
    "adopt": No("NumPy has no modules of its own"),
    "native_loop": No("NumPy has no gradients of its own"),
    "distributed": No("an example need not be complete: its step runs in one process"),
    "device": No("NumPy computes on the CPU"),
    "precision_bf16": No("NumPy has no bfloat16"),
    "encoder_gru": No("an example need not be complete: gradients of encoders are long"),
    "encoder_attention": No("an example need not be complete: gradients of encoders are long"),
    "encoder_time": No("an example need not be complete: gradients of encoders are long"),
}

INFO = BackendInfo(
    name="numpy",
    factory="recs_core_numpy.backend:create",
    summary="plain NumPy, gradients by hand",
    requires=("numpy",),
    capabilities={
        "categorical": True,
        "bag": True,
        "history": True,
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
        "state": True,
        **LACKS,
    },
)


@hookimpl
def recs_backends() -> list[BackendInfo]:
    return [INFO]


def lacks(capability: str) -> UnsupportedFeature:
    """What a call that needs a declined capability raises: the reason declared above."""
    return UnsupportedFeature(f"backend 'numpy' has no {capability}: {LACKS[capability].reason}")
