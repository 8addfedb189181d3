"""Imports point down: every room stands on a floor, and imports from floors below it alone; no two files import each
other, by whatever way round. Read from the source, so that imports inside functions count too; those for type checkers
alone do not, as nothing depends on them when the code runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import recs_core

PACKAGE = Path(recs_core.__file__).parent

FLOORS = (
    ("contract", "spelling", "version"),
    ("distributed", "elsewhere", "environment", "fitted", "reference", "scoring", "storage", "where"),
    ("copies", "plugin", "tables"),
    ("config", "data", "index"),
    ("adopted", "asked", "datasets", "growth", "keras_backend", "store"),
    ("evaluation", "explained"),
    ("training",),
    ("bundle", "recommender"),
    ("mining", "runtime"),
    ("backed", "spread"),
    ("restoring", "together"),
    ("two_tower",),
    ("loading", "recipes"),
    ("conformance", "difference", "experiment", "exporting", "indexing", "monitor", "service"),
    ("compare",),
    ("recs_core",),
    ("cli",),
)
"""From the ground up. A room is a folder or a file right below the package; `recs_core` is the package's own face."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
DRAWN = re.compile(r"(<!-- made by tests/test_imports\.py -->\n\n```text\n).*?(```\n)", flags=re.S)

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements hold statements."""

Arrows = dict[str, set[str]]


def arrows(package: Path) -> Arrows:
    """Module → the modules of the same package that it imports."""
    files = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
        if "templates" not in path.relative_to(package).parts[:1]
    }
    return {
        module: {name for name in imported(ast.parse(path.read_text("utf-8")), set(files)) if name != module}
        for module, path in files.items()
    }


def imported(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """Those of `modules` that the code imports when it runs; only statements are looked at."""
    for node in (node for name in BLOCKS for node in getattr(tree, name, ())):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inside & modules
            if inside - modules and node.module in modules:
                yield node.module
        yield from imported(node, modules)


@cache
def ours() -> Arrows:
    return arrows(PACKAGE)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def cycle(graph: Arrows) -> list[str]:
    """One circle of imports; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def climbing(graph: Arrows) -> list[str]:
    """Imports from another room that does not stand on a floor below."""
    return sorted(
        f"{module} → {target}"
        for module, targets in graph.items()
        for target in targets
        if room(module) != room(target) and FLOOR[room(module)] <= FLOOR[room(target)]
    )


def drawing() -> str:
    """The house from its roof down: a line per room, with the first line of its docstring."""
    lines = []
    for number in range(len(FLOORS), 0, -1):
        for at, name in enumerate(FLOORS[number - 1]):
            path = PACKAGE if name == PACKAGE.name else PACKAGE / name
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            said = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").splitlines()[0]
            lines.append(f"{number if not at else '':>2}  {name + ('/' if path.is_dir() else '.py'):<15} {said}")
    return "\n".join(lines)


def test_the_page_draws_the_house_as_it_is() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_drawing(page), "run python tests/test_imports.py"


def with_drawing(page: str) -> str:
    """The page with the house drawn as it is now."""
    return DRAWN.sub(lambda found: f"{found[1]}{drawing()}\n{found[2]}", page)


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in ours()} == set(FLOOR)


def test_imports_point_down() -> None:
    assert climbing(ours()) == []


def test_no_circle() -> None:
    assert cycle(ours()) == []


def test_what_is_seen(tmp_path: Path) -> None:
    """Imports in functions and of names within a module count, those for type checkers do not."""
    package = tmp_path / "recs_core"
    (package / "tables").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "tables" / "__init__.py").touch()
    (package / "tables" / "columns.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from recs_core.cli import main\n"
        "def f():\n    if True:\n        from recs_core.tables import times\n"
    )
    (package / "tables" / "times.py").write_text("from recs_core.training import Loop\n")
    (package / "training.py").write_text("import numpy, recs_core.tables.columns\nfrom recs_core import tables\n")
    (package / "cli.py").touch()
    graph = arrows(package)
    assert graph["recs_core.tables.columns"] == {"recs_core.tables.times"}
    assert graph["recs_core.training"] == {"recs_core.tables.columns", "recs_core.tables"}
    assert climbing(graph) == ["recs_core.tables.times → recs_core.training"]
    assert set(cycle(graph)) == {"recs_core.tables.columns", "recs_core.tables.times", "recs_core.training"}


if __name__ == "__main__":
    PAGE.write_text(with_drawing(PAGE.read_text("utf-8")), "utf-8")
