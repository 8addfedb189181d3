"""TensorFlow Recommenders as a recs-core backend: real TFRS inside, none of its traps.

Importing this package imports no TensorFlow. Using one of its names does, on Keras 2 as TFRS needs it.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME_OF = {
    "tf": "environment",
    "tfrs": "environment",
    "Backend": "backend",
    "TFRSModel": "native",
    "TFRSRetrieval": "native",
    "BruteForce": "indexes",
    "Streaming": "indexes",
    "tf_dataset": "data",
    "export_tower": "export",
    "export_recommender": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


__all__ = ["__version__", *_HOME_OF]  # noqa: PLE0604 (both hold names)
