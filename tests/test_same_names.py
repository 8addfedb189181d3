"""Every backend has the same files with the same public names, so that two can be read side by side."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BACKENDS = {
    "torch": ROOT / "plugins/torch/src/recs_core_torch",
    "tensorflow": ROOT / "plugins/tensorflow/src/recs_core_tensorflow",
    "keras": ROOT / "recs_core/keras_backend",
    "numpy": ROOT / "examples/numpy_backend_plugin/src/recs_core_numpy",
}

NAMES = {
    "plugin": {"INFO", "recs_backends"},
    "backend": {"Backend", "create"},
    "model": {"Model"},
    "towers": {"Tower", "look_up"},
    "adopted": {"AdoptedTower"},
    "task": {"RetrievalTask"},
    "kernel": {"pack", "loss"},
    "trainer": {"Trainer"},
    "optimizers": {"new_slots", "update", "clip"},
    "data": {"as_inputs"},
}
"""File → what it defines. `kernel.pack`: a `TaskPlan` in the framework's arrays; `kernel.loss`: the loss from it."""

LACKS = {"numpy": {"adopted"}}
"""What a backend declares not to have."""


def defined(path: Path) -> set[str]:
    """The names that a file defines at its top."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize("backend", BACKENDS)
def test_files_and_names_are_those_of_every_backend(backend: str) -> None:
    for file, names in NAMES.items():
        if file in LACKS.get(backend, set()):
            continue
        path = BACKENDS[backend] / f"{file}.py"
        assert path.exists(), f"{backend} has no {file}.py"
        missing = names - defined(path)
        assert not missing, f"{backend}/{file}.py does not define {', '.join(sorted(missing))}"
