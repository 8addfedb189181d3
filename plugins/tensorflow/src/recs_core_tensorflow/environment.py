"""TensorFlow and TensorFlow Recommenders, imported the one way that works: on Keras 2, which is `tf_keras`.

TFRS 0.7.7 refuses to be imported under Keras 3, and which Keras `tf.keras` is, is settled when TensorFlow is
imported. So no file of this plugin imports TensorFlow itself; each takes it from here:

    >>> from recs_core_tensorflow.environment import tf, tfrs
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from recs_core.contract.errors import BackendConflict, MissingExtra
from recs_core.contract.guard import Guard, use
from recs_core.environment import prepare_tensorflow

ASKED_BY = "recs-core-tensorflow"


def guard() -> Guard:
    """A model's guard: every reading and writing of its variables is within it."""
    return Guard("tensorflow", "the tensorflow backend")


def refuse_forked() -> None:
    """Raise `UnsupportedFeature` in a process forked from one where TensorFlow had started."""
    use("tensorflow", ASKED_BY)


LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# What TensorFlow prints on every start on a machine without a GPU, whatever the log level: informational lines, absl's
# notice that it is not set up yet, the hint to rebuild for this processor, and the failure to find a GPU driver.
_NOISE = re.compile(
    r"^(I\d{4} |\d{4}-\d\d-\d\d .*: I |WARNING: All log messages before absl::InitializeLog\(\)"
    r"|To enable the following instructions:|E\d{4} .*(cuInit|CUDA_ERROR_NO_DEVICE|Unable to register cu))"
)


def settle(asked_by: str = ASKED_BY) -> None:
    """Make the import of TensorFlow, which is to follow, bring Keras 2. Imports nothing.

    Raises `MissingExtra` without tf_keras, and `BackendConflict`, naming both sides, if tf_keras and tensorflow are not
    of one minor version, if `TF_USE_LEGACY_KERAS` says the opposite, or if TensorFlow is imported with Keras 3 already.
    """
    prepare_tensorflow(legacy_keras=True, asked_by=asked_by)
    _check_versions(asked_by)
    os.environ.setdefault(LOG_LEVEL, "1")  # warnings and errors still show


def _check_versions(asked_by: str) -> None:
    """tf_keras is released with TensorFlow and made for the release of the same minor version."""
    versions = {name: _version(name) for name in ("tensorflow", "tf_keras")}
    if None in versions.values():
        return  # installed under another name, as nightly builds are: nothing to compare
    minor = {name: ".".join(str(version).split(".")[:2]) for name, version in versions.items()}
    if minor["tensorflow"] != minor["tf_keras"]:
        raise BackendConflict(
            f"{asked_by} needs tensorflow and tf_keras of one minor version, but "
            f"tensorflow is {versions['tensorflow']} and tf_keras is {versions['tf_keras']}; "
            f"`pip install tf-keras~={minor['tensorflow']}.0`"
        )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def load(asked_by: str = ASKED_BY) -> tuple[Any, Any]:
    """The modules `tensorflow` and `tensorflow_recommenders`, imported on Keras 2. Raises as `settle`."""
    settle(asked_by)
    with _quiet_start():
        tensorflow = _import("tensorflow", asked_by)
        recommenders = _import("tensorflow_recommenders", asked_by)
        tensorflow.config.list_physical_devices()  # looks for a GPU, and complains, now rather than at the first step
    return tensorflow, recommenders


def _import(module: str, asked_by: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        pip_name = module.replace("_", "-")
        raise MissingExtra(f"{asked_by} needs {module}, not installed: `pip install {pip_name}`") from error


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hold back what is written to the process's stderr meanwhile, then write all of it that is not start-up noise.

    TensorFlow's own log level does not reach these lines: they are printed before it is read.
    """
    if "tensorflow" in sys.modules or os.environ.get(LOG_LEVEL) == "0":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not _NOISE.match(line)))


def __getattr__(name: str) -> Any:
    if name not in ("tf", "tfrs"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = load()
    globals().update(zip(("tf", "tfrs"), modules, strict=True))
    return globals()[name]
