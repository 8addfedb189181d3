"""The rules that rewrite syntax: from a place to what may stand there instead."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator

from recs_core.contract.optimizers import Adagrad, Adam, Optimizer
from recs_core.contract.retrieval import RetrievalSpec

from .places import MODULE, Place

Rule = Callable[[Place], Iterator[ast.AST]]


def _defaults() -> dict[str, set[float]]:
    """Hyperparameters and the numbers that they have unless one says otherwise."""
    found: dict[str, set[float]] = {"clip_norm": {1.0}, "start": {0.0, 0.1}, "learning_rate": {0.1}}
    for spec in (Optimizer, Adagrad, Adam, RetrievalSpec):
        for field in dataclasses.fields(spec):
            if isinstance(field.default, float):
                found.setdefault(field.name, set()).add(field.default)
    return found


DEFAULTS = _defaults()
OPERATORS: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARED: dict[type, type] = {
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
STRICTER: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
CALLED = {
    "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "any": "all", "all": "any", "sum": "mean",
    "mean": "sum", "zeros": "ones", "ones": "zeros", "exp": "expm1", "expm1": "exp", "argmax": "argmin",
    "argmin": "argmax", "sqrt": "square", "zeros_like": "ones_like", "empty": "zeros", "sort": "copy",
}  # fmt: skip
IN_THIS_ORDER = ("isinstance", "getattr", "zip", "range", "max", "min", "maximum", "minimum", "logaddexp")
"""Calls whose arguments mean nothing, or the same, in another order."""
DROPPED_ARGUMENTS = ("initial", "kind", "keepdims", "minlength", "axis", "dtype", "exclude", "allow", "side")
DTYPES = {"float64": ("float32",), "float32": ("float16",), "int64": ("int32", "int16"), "int32": ("int16", "int8")}


def drop(place: Place) -> Iterator[ast.AST]:
    """A statement, a condition or a term less."""
    node = place.node
    if isinstance(node, (ast.AugAssign, ast.Delete)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()
    elif isinstance(node, ast.Assign):
        target = node.targets[0]
        made = isinstance(target, ast.Attribute) and place.function.endswith("__init__")
        rebound = isinstance(target, ast.Name) and target.id in place.bound
        if rebound or (isinstance(target, (ast.Attribute, ast.Subscript)) and not made):
            yield ast.Pass()
    elif isinstance(node, (ast.If, ast.IfExp)):
        for value in (True, False):
            yield type(node)(ast.Constant(value), node.body, node.orelse)
    else:
        yield from _with_a_term_less(node)


def _with_a_term_less(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)):
            yield from (node.left, node.right)
        elif not isinstance(node.op, ast.MatMult):
            yield node.left
    elif isinstance(node, ast.BoolOp):
        yield from (
            ast.BoolOp(node.op, [v for v in node.values if v is not value]) if len(node.values) > 2 else other
            for value, other in zip(node.values, reversed(node.values), strict=True)
        )
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg in DROPPED_ARGUMENTS:
                yield ast.Call(node.func, node.args, [k for k in node.keywords if k is not keyword])
        if _called(node) in ("maximum", "minimum", "max", "min", "abs", "where") and len(node.args) > 1:
            yield from node.args[-2:]


def swap(place: Place) -> Iterator[ast.AST]:
    """Two arguments, operands, operators or branches in each other's place."""
    node = place.node
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        if isinstance(node.op, (ast.Sub, ast.Div)):
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
        yield ast.Compare(node.left, [COMPARED[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Call):
        name = _called(node)
        if len(node.args) == 2 and name not in IN_THIS_ORDER and not node.keywords:
            yield ast.Call(node.func, node.args[::-1], node.keywords)
        if name in CALLED:
            yield ast.Call(_renamed(node.func, CALLED[name]), node.args, node.keywords)


def off_by_one(place: Place) -> Iterator[ast.AST]:
    """One more or one less: a constant, the bound of a slice, a comparison."""
    node = place.node
    if isinstance(node, ast.Constant) and type(node.value) is int and not _is_axis(place):
        yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in STRICTER:
        yield ast.Compare(node.left, [STRICTER[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.Slice):
        one = ast.Constant(1)
        if node.upper is not None:
            for op in (ast.Add(), ast.Sub()):
                yield ast.Slice(node.lower, ast.BinOp(node.upper, op, one), node.step)
        if node.lower is not None:
            yield ast.Slice(ast.BinOp(node.lower, ast.Add(), one), node.upper, node.step)


def axis(place: Place) -> Iterator[ast.AST]:
    """Another axis, or none transposed."""
    node = place.node
    if isinstance(node, ast.Constant) and type(node.value) is int and _is_axis(place):
        yield ast.Constant(0 if node.value else 1)
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield ast.BinOp(node.left, node.op, ast.Attribute(node.right, "T", ast.Load()))
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2:
        yield ast.Subscript(node.value, ast.Tuple(node.slice.elts[::-1], ast.Load()), node.ctx)


def constant(place: Place) -> Iterator[ast.AST]:
    """Another number, or a hyperparameter's default for the one given."""
    node = place.node
    if isinstance(node, ast.Constant) and type(node.value) is float and node.value:
        yield from (ast.Constant(node.value * 10), ast.Constant(node.value / 10))
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in DEFAULTS:
        yield from (ast.Constant(value) for value in sorted(DEFAULTS[node.attr]))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in DEFAULTS:
        yield from (ast.Constant(value) for value in sorted(DEFAULTS[node.id]))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id.isupper() and "EPS" in node.id:
        yield from (ast.BinOp(node, ast.Mult(), ast.Constant(factor)) for factor in (0.01, 100.0))


def narrow(place: Place) -> Iterator[ast.AST]:
    """A narrower type, by its name or on the way into a name."""
    node = place.node
    if isinstance(node, ast.Attribute) and node.attr in DTYPES and isinstance(node.value, ast.Name):
        yield from (ast.Attribute(node.value, narrower, ast.Load()) for narrower in DTYPES[node.attr])
    else:
        for dtype in ("float32", "int16", "int8"):
            yield from narrow_on_the_way(place, "narrow", dtype)


def narrow_on_the_way(place: Place, effect: str, argument: object) -> Iterator[ast.AST]:
    """What is computed and assigned here, by way of `_effects.<effect>(…, argument)`."""
    node = place.node
    assigned = place.field == "value" and isinstance(place.parent, (ast.Assign, ast.AnnAssign, ast.AugAssign))
    computed = isinstance(node, (ast.Call, ast.BinOp, ast.Subscript, ast.IfExp))
    if assigned and computed and place.function != MODULE:
        called = ast.Attribute(ast.Name("_effects", ast.Load()), effect, ast.Load())
        yield ast.Call(called, [node, ast.parse(repr(argument), mode="eval").body], [])


def alias(place: Place) -> Iterator[ast.AST]:
    """An array that is the caller's, or the model's own, in the place of a copy; a change in place."""
    node = place.node
    if isinstance(node, ast.Call):
        name = _called(node)
        if name == "copy" and isinstance(node.func, ast.Attribute) and not node.args:
            yield node.func.value
        elif name in ("array", "ascontiguousarray"):
            yield ast.Call(_renamed(node.func, "asarray"), node.args, node.keywords)
        elif name in ("dict", "list", "replace") and node.args:
            yield node.args[0]
    elif (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.BinOp)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value.left, ast.Name)
        and node.value.left.id == node.targets[0].id
        and not isinstance(node.value.op, ast.MatMult)
    ):
        yield ast.AugAssign(node.targets[0], node.value.op, node.value.right)


RULES: dict[str, Rule] = {
    "drop": drop,
    "swap": swap,
    "off-by-one": off_by_one,
    "axis": axis,
    "constant": constant,
    "narrow": narrow,
    "alias": alias,
}


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _renamed(function: ast.expr, name: str) -> ast.expr:
    return ast.Attribute(function.value, name, ast.Load()) if isinstance(function, ast.Attribute) else ast.Name(name)


def _is_axis(place: Place) -> bool:
    return isinstance(place.parent, ast.keyword) and place.parent.arg == "axis"
