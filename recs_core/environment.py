"""What frameworks read once, at import: set here before that, never overwritten once someone else has decided.

Manners: already right → leave; unset → set; decided otherwise → an error that names both sides.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec

from recs_core.contract.errors import BackendConflict, BackendNotFound, MissingExtra, UnsupportedFeature
from recs_core.spelling import meant_engine

ENGINES = ("jax", "torch", "tensorflow")
"""Keras engines that can train, in the order in which the default is looked for."""

ENGINES_WITHOUT_GRADIENTS = ("numpy", "openvino")

LEGACY_VARIABLE = "TF_USE_LEGACY_KERAS"
X64_VARIABLE = "JAX_ENABLE_X64"

_TENSORFLOW_TRUE = ("true", "True", "1")  # as TensorFlow reads it


def is_installed(module: str) -> bool:
    """Whether a top-level module could be imported, without importing it."""
    return module in sys.modules or find_spec(module) is not None


def refuse_engine(engine: str, source: str) -> None:
    """Raise for a Keras engine that does not exist (`BackendNotFound`) or cannot train (`UnsupportedFeature`)."""
    if engine in ENGINES_WITHOUT_GRADIENTS:
        raise UnsupportedFeature(
            f"keras[{engine}] (asked for by {source}) cannot train: it has no gradients; "
            f"use one of {', '.join(ENGINES)}"
        )
    if engine not in ENGINES:
        meant = meant_engine(engine)
        hint = f"use one of {', '.join(ENGINES)}" if meant is None else f"write {meant!r}, as in 'keras[{meant}]'"
        raise BackendNotFound(f"keras has no engine {engine!r} (asked for by {source}); {hint}")


def imported_keras_engine() -> str | None:
    """The engine of keras where it is already imported, else None. Imports nothing."""
    config = getattr(sys.modules.get("keras"), "config", None)
    return None if config is None else str(config.backend())


def prepare_keras(engine: str, source: str) -> None:
    """Make the first import of keras, which is to follow, use `engine`; `source` says who asked.

    Keras reads `KERAS_BACKEND` once. An explicit choice outranks the variable (docs/configuration.md), so it is set
    as long as keras is not imported. Raises `BackendConflict` if keras is imported with another engine,
    `MissingExtra` if keras or the engine is not installed, and as `refuse_engine`.
    """
    refuse_engine(engine, source)
    imported = imported_keras_engine()
    if imported == engine:
        return
    if imported is not None:
        raise BackendConflict(
            f"{source} asks for keras[{engine}], but keras is already imported with {imported}, "
            f"and it has one engine per process; start Python with KERAS_BACKEND={engine}, or use keras[{imported}]"
        )
    missing = [module for module in ("keras", engine) if not is_installed(module)]
    if missing:
        raise MissingExtra(
            f"keras[{engine}] (asked for by {source}) needs {' and '.join(missing)}, not installed: "
            f"`pip install {' '.join(missing)}`"
        )
    os.environ["KERAS_BACKEND"] = engine
    if engine == "tensorflow":
        prepare_tensorflow(legacy_keras=False, asked_by=source)
    if engine == "torch":
        importlib.import_module("torch")  # before TensorFlow, which keras may import for its utilities


def prepare_tensorflow(legacy_keras: bool, asked_by: str) -> None:
    """Set how the import of TensorFlow, which is to follow, resolves `tf.keras`.

    Under `TF_USE_LEGACY_KERAS=1` it is Keras 2 (`tf_keras`), which TensorFlow Recommenders needs; the package keras
    stays Keras 3, so both work in one process. The flag is therefore set whenever tf_keras is installed and nobody
    decided otherwise. With `legacy_keras` it must hold: raises `MissingExtra` without tf_keras, and `BackendConflict`
    if the variable says the opposite or TensorFlow is already imported without it.
    """
    if legacy_keras and not is_installed("tf_keras"):
        raise MissingExtra(f"{asked_by} needs tf_keras, which is Keras 2, not installed: `pip install tf_keras`")
    stated = os.environ.get(LEGACY_VARIABLE)
    if "tensorflow" in sys.modules:
        if legacy_keras and not _imported_with_legacy_keras():
            raise BackendConflict(
                f"{asked_by} needs Keras 2, but tensorflow is already imported with Keras 3; "
                f"set {LEGACY_VARIABLE}=1 before `import tensorflow`, or choose the backend before it"
            )
        return
    if legacy_keras and stated and stated not in _TENSORFLOW_TRUE:
        raise BackendConflict(
            f"{asked_by} needs {LEGACY_VARIABLE}=1, but the environment says {LEGACY_VARIABLE}={stated}; "
            "unset it or set it to 1"
        )
    if not stated and is_installed("tf_keras"):
        os.environ[LEGACY_VARIABLE] = "1"
    if os.environ.get("KERAS_BACKEND") == "torch":
        importlib.import_module("torch")  # both will be loaded, and torch must be first


def prepare_jax_x64(asked_by: str) -> None:
    """Let JAX make float64 arrays, which it truncates to float32 otherwise; imports jax.

    JAX keeps float32 and float64 traces of one function apart, so this may come after arrays were made. It holds for
    the whole process: integers and Python numbers become 64-bit too, float32 arrays stay as they are. Raises
    `BackendConflict` if `JAX_ENABLE_X64` forbids it.
    """
    stated = os.environ.get(X64_VARIABLE, "").lower()
    if stated in ("0", "false", "off", "no", "n", "f"):
        raise BackendConflict(
            f"{asked_by} needs float64 in JAX, but the environment says {X64_VARIABLE}={stated}; "
            "unset it or set it to 1"
        )
    importlib.import_module("jax").config.update("jax_enable_x64", True)


def _imported_with_legacy_keras() -> bool:
    """How tensorflow, already imported, resolves `tf.keras`; older versions do not say, so the variable does."""
    said = getattr(sys.modules["tensorflow"], "_tf_uses_legacy_keras", None)
    return said if isinstance(said, bool) else os.environ.get(LEGACY_VARIABLE) in _TENSORFLOW_TRUE
