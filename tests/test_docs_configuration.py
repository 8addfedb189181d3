"""docs/configuration.md names every setting and environment variable that the code reads or sets, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from recs_core.config import SETTINGS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
VARIABLE = re.compile(r"(RECS|KERAS|TF|JAX|OMP|MKL|OPENBLAS)_[A-Z0-9_]+")
ONLY_SHOWN = {"recs_core/cli/doctor.py"}  # lists variables of others, to show their values


def variables_in_code() -> set[str]:
    """Every string of the package that is the name of an environment variable of ours or of a framework."""
    found = set()
    for path in sorted((ROOT / "recs_core").rglob("*.py")):
        relative = path.relative_to(ROOT).as_posix()
        if relative in ONLY_SHOWN or relative.startswith("recs_core/templates/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
                found.add(node.value)
    return found


def rows(header: str) -> set[str]:
    """First cells, in backticks, of the tables whose first column is called `header`."""
    tables = re.findall(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.M)
    return {cell for table in tables for cell in re.findall(r"^\| `([^`]+)` \|", table, flags=re.M)}


def test_every_variable_is_on_the_page() -> None:
    code = variables_in_code()
    assert {"RECS_BACKEND", "RECS_CONFIG", "KERAS_BACKEND", "TF_USE_LEGACY_KERAS"} <= code
    assert code == set(m.group() for m in VARIABLE.finditer(PAGE))


def test_every_setting_is_on_the_page() -> None:
    assert rows("setting") == set(SETTINGS)
