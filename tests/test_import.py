"""`import recs_core` is light: no framework comes with it, and every public name is found when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import recs_core

FRAMEWORKS = ("jax", "keras", "tensorflow", "tf_keras", "torch")
HEAVY = (*FRAMEWORKS, "numpy", "pyarrow", "safetensors", "matplotlib", "pytest", "hypothesis")


def loaded_after(code: str, *modules: str) -> list[str]:
    """Which of `modules` a new interpreter has loaded after `code`."""
    program = f"import sys\n{code}\nprint(*sorted(set({modules!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_import_loads_nothing_heavy() -> None:
    assert loaded_after("import recs_core", *HEAVY) == []


def test_what_a_plugin_author_imports_loads_nothing_heavy() -> None:
    assert loaded_after("from recs_core.plugin import BackendInfo, IndexInfo, No, hookimpl", *HEAVY) == []


def test_selecting_loads_no_framework() -> None:
    assert loaded_after("import recs_core.config as c; c.select('keras'); c.use('keras[jax]')", *FRAMEWORKS) == []


def test_listing_loads_no_framework() -> None:
    code = "from recs_core.plugin.manager import list_backends, list_indexes; list_backends(); list_indexes()"
    assert loaded_after(code, *FRAMEWORKS) == []


@pytest.mark.parametrize(
    "module",
    ["contract.features", "contract.protocols", "contract.task", "contract.weights", "data", "recommender", "training"],
)
def test_the_core_loads_no_framework(module: str) -> None:
    assert loaded_after(f"import recs_core.{module}", *FRAMEWORKS) == []


@pytest.mark.parametrize("name", [name for name in recs_core.__all__ if name != "__version__"])
def test_public_names(name: str) -> None:
    assert name in dir(recs_core)
    assert getattr(recs_core, name) is getattr(recs_core, name)


def test_every_public_name_loads_no_framework() -> None:
    assert loaded_after("import recs_core as r; [getattr(r, name) for name in r.__all__]", *FRAMEWORKS) == []


def test_what_a_loop_of_keras_imports_leaves_the_engine_to_the_model() -> None:
    assert loaded_after("from recs_core.keras_backend import batches", *FRAMEWORKS) == []


def test_a_name_that_is_none() -> None:
    with pytest.raises(AttributeError, match="'recs_core' has no attribute 'TwinTower'"):
        recs_core.TwinTower  # noqa: B018
