"""What this plugin offers, said without importing TensorFlow."""

from __future__ import annotations

from recs_core.plugin import BackendInfo, IndexInfo, No, hookimpl

REQUIRES = ("tensorflow", "tf_keras", "tensorflow_recommenders")

INFO = BackendInfo(
    name="tensorflow",
    factory="recs_core_tensorflow.backend:create",
    summary="TensorFlow Recommenders on tf_keras, with a blocked softmax and row-sparse optimizers",
    requires=REQUIRES,
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
        "distributed": No(
            "tf.distribute keeps a copy of every table, and negatives within a worker, or it is asynchronous; train on "
            "the workers of torch or keras[jax], and recs.load(bundle, backend='tensorflow')"
        ),
        "device": No(
            "TensorFlow computes on the first GPU that it finds, else on the CPU; say which it finds by "
            "CUDA_VISIBLE_DEVICES, before Python starts"
        ),
    },
)

_INDEX_CAPABILITIES: dict[str, bool | No] = {
    "exclude": True,
    "allow": True,
    "memory_map": No("TFRS layers copy the candidates into TensorFlow's memory"),
    "float64_scores": No("TFRS layers score in float32, and TensorFlow takes what is subnormal for 0"),
    "storable": No("TFRS layers hold the candidates and nothing made of them"),
    "updatable": No("TFRS layers are indexed anew"),
}

INDEXES = [
    IndexInfo(
        name="tfrs-brute-force",
        factory="recs_core_tensorflow.indexes:BruteForceIndex",
        summary="tfrs.layers.factorized_top_k.BruteForce: all scores of a block of queries at once",
        is_exact=True,
        requires=REQUIRES,
        capabilities=_INDEX_CAPABILITIES,
    ),
    IndexInfo(
        name="tfrs-streaming",
        factory="recs_core_tensorflow.indexes:StreamingIndex",
        summary="tfrs.layers.factorized_top_k.Streaming: a running top-k over blocks of candidates",
        is_exact=True,
        requires=REQUIRES,
        capabilities=_INDEX_CAPABILITIES,
    ),
]


@hookimpl
def recs_backends() -> list[BackendInfo]:
    """The manifest of `tensorflow`."""
    return [INFO]


@hookimpl
def recs_indexes() -> list[IndexInfo]:
    """The manifests of `tfrs-brute-force` and `tfrs-streaming`."""
    return INDEXES


@hookimpl
def recs_backend_selected(info: BackendInfo, source: str) -> None:
    """Settle which Keras TensorFlow will bring, before anything imports it."""
    if info.name == INFO.name:
        from recs_core_tensorflow import environment

        environment.settle(f"the tensorflow backend (asked for by {source})")
