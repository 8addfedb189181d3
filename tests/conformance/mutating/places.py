"""Where a module's syntax may be changed: the statements and expressions of its functions, but types and messages."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SKIPPED = (ast.Raise, ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Pass)
MODULE = "module"
"""The function of what stands in no function: constants and tables of a module."""


@dataclass(frozen=True)
class Place:
    """A node, where it hangs, and what it is in. `bound`: names that are bound more than once where it stands."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    function: str
    statement: ast.stmt
    bound: frozenset[str]

    def put(self, node: ast.AST) -> None:
        """Change the tree: `node` in the place of this one."""
        ast.copy_location(node, self.node)
        ast.fix_missing_locations(node)
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions and methods of a module, by qualified name; not those within functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from (
                (f"{node.name}.{inner.name}", inner) for inner in node.body if isinstance(inner, ast.FunctionDef)
            )


def places(tree: ast.Module) -> Iterator[Place]:
    """Every place of a module, in the order of its text."""
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, (ast.Constant, ast.Dict)):
            yield from _within(node, MODULE, node, frozenset())
    for name, function in functions(tree):
        for field, index, statement in _body(function):
            yield Place(function, field, index, statement, name, statement, _bound(function))
            yield from _within(statement, name, statement, _bound(function))


def reached(trees: Mapping[str, ast.Module], entry: str) -> set[tuple[str, str]]:
    """(module, function) of what a module's own functions may call, directly or not, told by names alone."""
    bodies: dict[str, list[ast.AST]] = {}
    for tree in trees.values():
        for node in tree.body:
            for name in [getattr(node, "name", None), *(t.id for t in getattr(node, "targets", ()) if _is_name(t))]:
                bodies.setdefault(str(name), []).append(node)
    names: set[str] = set()
    new = {str(getattr(node, "name", "")) for node in trees[entry].body}
    while new:
        names |= new
        inside = (inner for name in new for body in bodies.get(name, ()) for inner in ast.walk(body))
        new = {str(getattr(node, "id", None) or getattr(node, "attr", None)) for node in inside} - names
    return {
        (module, name) for module, tree in trees.items() for name, _ in functions(tree) if name.split(".")[0] in names
    }


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def snippet(node: ast.AST, width: int = 60) -> str:
    """A node as text in one line, not longer than `width`."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _body(function: ast.FunctionDef) -> Iterator[tuple[str, int, ast.stmt]]:
    for index, statement in enumerate(function.body):
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            yield "body", index, statement


def _within(node: ast.AST, function: str, statement: ast.stmt, bound: frozenset[str]) -> Iterator[Place]:
    if isinstance(node, SKIPPED):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "ctx", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        if isinstance(node, ast.Dict) and field == "keys":
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not isinstance(child, (ast.operator, ast.cmpop, ast.boolop, ast.unaryop)):
                here = child if isinstance(child, ast.stmt) else statement
                if not isinstance(child, SKIPPED):
                    yield Place(node, field, index, child, function, here, bound)
                yield from _within(child, function, here, bound)


def _bound(function: ast.FunctionDef) -> frozenset[str]:
    """Names bound more than once: arguments that are bound again, and names that are assigned twice."""
    names = Counter(argument.arg for argument in (*function.args.args, *function.args.kwonlyargs))
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] += 1
    return frozenset(name for name, number in names.items() if number > 1)
