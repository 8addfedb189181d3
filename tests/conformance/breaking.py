"""Breaking the NumPy backend: a copy of the oracle and of the backend with some lines of their source replaced."""

import itertools
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import recs_core.reference

ORACLE = Path(recs_core.reference.__file__).parent
HERE = Path(__file__).parent
MODULES = ("encoders", "towers", "task", "optimizers", "topk", "training", "numpy_backend")  # in order of import
_numbers = itertools.count()


@dataclass(frozen=True)
class Edit:
    """In `module`, `old`, which stands there exactly once, becomes `new`."""

    module: str
    old: str
    new: str


def broken(*edits: Edit) -> types.ModuleType:
    """The module `numpy_backend` over a copy of the oracle, both edited. Without edits, a correct backend."""
    package = f"broken_{next(_numbers)}"
    sys.modules[package] = types.ModuleType(package)
    for name in MODULES:
        path = HERE / "numpy_backend.py" if name == "numpy_backend" else ORACLE / f"{name}.py"
        source = path.read_text()
        for edit in (e for e in edits if e.module == name):
            assert source.count(edit.old) == 1, f"{edit.old!r} stands {source.count(edit.old)} times in {path.name}"
            source = source.replace(edit.old, edit.new)
        module = types.ModuleType(f"{package}.{name}")
        sys.modules[module.__name__] = module
        setattr(sys.modules[package], name, module)
        code = compile(source.replace("recs_core.reference", package), str(path), "exec")
        exec(code, vars(module))
    assert not {edit.module for edit in edits} - set(MODULES)
    return sys.modules[f"{package}.numpy_backend"]
