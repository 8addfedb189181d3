"""What mutants are made of: correct backends and indexes, as source that is parsed, changed and loaded as a copy."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import recs_core.index
import recs_core.reference
from recs_core.conformance.runner import Session, session

from . import effects

Kind = Literal["backends", "indexes"]
Trees = dict[str, ast.Module]
Modules = dict[str, types.ModuleType]

HERE = Path(__file__).parents[1]
EXAMPLE = HERE.parents[1] / "examples" / "numpy_backend_plugin" / "src"


def _folder(path: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(path.glob("*.py")) if file.stem != "__init__"}


ORACLE_FILES = _folder(Path(recs_core.reference.__file__).parent) | {"numpy_backend": HERE / "numpy_backend.py"}

FOR_OTHERS = ("SearchPlan.admits", "SearchPlan.take")
"""What lies beside the exact index for indexes around an engine: it calls none of it, so a mutant would say nothing."""


@dataclass(frozen=True)
class Subject:
    """One correct implementation. `entry`: its module that makes it; what that imports from `package` is copied too.

    `mutated`: whether a module's function may be changed, by both names.
    """

    name: str
    kind: Kind
    package: str
    files: Mapping[str, Path]
    entry: str
    make: Callable[[types.ModuleType], Any]
    mutated: Callable[[str, str], bool]

    def trees(self) -> Trees:
        """Module → its syntax, in order of import, as modules of a package of their own."""
        found: Trees = {}

        def read(name: str) -> None:
            if name in found:
                return
            source = self.files[name].read_text(encoding="utf-8").replace(self.package, self._copy)
            tree = ast.parse(source)
            for other in self._imports(tree):
                read(other)
            found[name] = tree

        read(self.entry)
        return found

    def load(self, trees: Trees) -> Modules:
        """The modules, executed."""
        package = types.ModuleType(self._copy)
        sys.modules[self._copy] = package
        modules: Modules = {}
        for name, tree in trees.items():
            module = types.ModuleType(f"{self._copy}.{name}")
            sys.modules[module.__name__] = module
            setattr(package, name, module)
            vars(module)["_effects"] = effects
            exec(compile(tree, str(self.files[name]), "exec"), vars(module))
            modules[name] = module
        return modules

    def session(self, modules: Modules, made: Any = None) -> Session:
        """The suite on what the modules make, or on what was made of them: a backend, or a class of indexes."""
        made = self.make(modules[self.entry]) if made is None else made
        return session(made) if self.kind == "backends" else session(index=made)

    @property
    def _copy(self) -> str:
        return f"mutant_{self.name}"

    def _imports(self, tree: ast.Module) -> list[str]:
        names = []
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == self._copy:
                names += [alias.name for alias in node.names if alias.name in self.files]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{self._copy}."):
                names.append(str(node.module).removeprefix(f"{self._copy}."))
        return names


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            "oracle",
            "backends",
            "recs_core.reference",
            ORACLE_FILES,
            "numpy_backend",
            lambda module: module.NumpyBackend(),
            lambda module, function: module != "topk" and not function.startswith(("NumpyIndex", "module")),
        ),
        Subject(
            "example",
            "backends",
            "recs_core_numpy",
            _folder(EXAMPLE / "recs_core_numpy"),
            "backend",
            lambda module: module.create(),
            lambda module, function: module != "plugin",
        ),
        Subject(
            "exact",
            "indexes",
            "recs_core.index",
            _folder(Path(recs_core.index.__file__).parent),
            "exact",
            lambda module: module.ExactIndex,
            lambda module, function: module != "plugin" and function not in FOR_OTHERS,
        ),
        Subject(
            "topk",
            "indexes",
            "recs_core.reference",
            ORACLE_FILES,
            "numpy_backend",
            lambda module: module.NumpyIndex,
            lambda module, function: module == "topk" or function.startswith("NumpyIndex"),
        ),
    )
}
"""The oracle as a backend and as an index, the NumPy example plugin, and the built-in exact index."""
