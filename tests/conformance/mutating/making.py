"""Mutants by name: those of the rules on syntax, of the rules on functions, and those made by hand."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from recs_core.conformance.runner import Session

from . import handmade_backends, handmade_calls, handmade_indexes
from .places import MODULE, Place, functions, places, reached, snippet
from .rules import RULES, narrow_on_the_way
from .subjects import SUBJECTS, Kind, Modules, Subject, Trees

Returns = Mapping[tuple[str, str, str], set[str]]
"""(subject, module, function or number of a place) → what was seen to come of it, as `effects.SEEN` has it."""

BY_HAND = {
    "backends": [*handmade_backends.HANDMADE, *handmade_calls.HANDMADE],
    "indexes": handmade_indexes.HANDMADE,
}


@dataclass(frozen=True)
class Mutant:
    """One wrong implementation. `edit` changes the subject's syntax, `patch` its modules once they are
    loaded; what it returns, if anything, is judged in the place of what the subject makes."""

    rule: str
    subject: Subject
    where: str  # file:function
    change: str
    edit: Callable[[Trees], None] | None = None
    patch: Callable[[Modules], Any] | None = None
    effect: bool = False  # of `effects`: no mutant where that touches nothing

    @property
    def name(self) -> str:
        """Stable as long as the function and the line are the same."""
        return f"{self.rule}/{self.where}:{self.change}"

    def session(self) -> Session:
        """The suite on it."""
        trees = self.subject.trees()
        if self.edit is not None:
            self.edit(trees)
        modules = self.subject.load(trees)
        made = self.patch(modules) if self.patch is not None else None
        return self.subject.session(modules, made)


def mutants(kind: Kind, returns: Returns, *, per_rule: int | None, seed: int = 0) -> list[Mutant]:
    """The mutants of a kind. `per_rule`: how many of each rule, chosen by `seed` and name; None: all."""
    found = [m for subject in SUBJECTS.values() if subject.kind == kind for m in by_rule(subject, returns)]
    chosen = [m for rule in dict.fromkeys(m.rule for m in found) for m in sample(found, rule, per_rule, seed)]
    return [*chosen, *by_hand(kind)]


def sample(found: list[Mutant], rule: str, number: int | None, seed: int) -> list[Mutant]:
    """So many mutants of a rule, the same ones whatever other mutants there are."""
    of_rule = [m for m in found if m.rule == rule]
    drawn = sorted(of_rule, key=lambda m: hashlib.sha256(f"{seed} {m.name}".encode()).digest())[:number]
    return sorted(drawn, key=of_rule.index)


def by_rule(subject: Subject, returns: Returns) -> Iterator[Mutant]:
    """Every mutant of a subject by the rules on syntax and on functions, each name once."""
    seen: Counter[str] = Counter()
    for made in (*_by_syntax(subject, returns), *_by_function(subject, returns)):
        seen[made.name] += 1
        number = seen[made.name]
        yield made if number == 1 else replace(made, change=f"{made.change} #{number}")


def by_hand(kind: Kind) -> list[Mutant]:
    """The mutants that no rule makes."""
    table = BY_HAND[kind]
    return [
        Mutant(made.rule, SUBJECTS[made.subject], f"{made.subject}/{made.where}", made.what, patch=made.patch)
        for made in table
    ]


def _by_syntax(subject: Subject, returns: Returns) -> Iterator[Mutant]:
    trees = subject.trees()
    live = reached(trees, subject.entry)
    for module, tree in trees.items():
        for number, place in enumerate(places(tree)):
            if place.function != MODULE and (module, place.function) not in live:
                continue
            if not subject.mutated(module, place.function):
                continue
            for rule, rewrite in RULES.items():
                for choice, node in enumerate(rewrite(place)):
                    change = _change(place.node, node)
                    if place.node is not place.statement:
                        change += f" in {snippet(place.statement)}"
                    effect = "_effects" in ast.dump(node)
                    if effect and not _narrows(node, returns.get((subject.name, module, str(number)), set())):
                        continue
                    where = f"{subject.name}/{module}.py:{place.function}"
                    edit = _edit(module, number, rule, choice)
                    yield Mutant(rule, subject, where, change, edit=edit, effect=effect)


def _change(old: ast.AST, new: ast.AST) -> str:
    if isinstance(new, ast.Call) and new.args[:1] == [old] and "_effects" in ast.dump(new.func):
        return f"{snippet(old)} by way of {ast.literal_eval(new.args[1])}"
    return f"{snippet(old)} → {snippet(new)}"


def _narrows(node: ast.AST, seen: set[str]) -> bool:
    """Whether `_effects.narrow(…, dtype)` narrows anything of what was seen there."""
    dtype = node.args[1].value if isinstance(node, ast.Call) and isinstance(node.args[1], ast.Constant) else ""
    return any(what.startswith("f64" if dtype == "float32" else "i") for what in seen)


def _edit(module: str, number: int, rule: str, choice: int) -> Callable[[Trees], None]:
    """The place is found again by its number, in syntax that is read anew for each mutant."""

    def edit(trees: Trees) -> None:
        place: Place = list(places(trees[module]))[number]
        place.put(list(RULES[rule](place))[choice])

    return edit


# Rules on functions: (rule, what it does, the decorator as source, which results it is for)


def _rows(seen: set[str]) -> bool:
    return any(what[-1] in "12" for what in seen)


def _columns(seen: set[str]) -> bool:
    return any(what[-1] == "2" for what in seen)


def _numbers(seen: set[str]) -> bool:
    return any(what[0] == "f" and what[-1] in "12" for what in seen)


_ROWS = (2**7, 2**8, 2**10, 2**15, 2**16)
_COLUMNS = (2**7, 2**8)
_PUBLIC = ("stale_by_identity", "buffered", "within(1.2e-38, 1e300)")
"""What is a fault only where a caller can see it: in public methods."""
DECORATORS: list[tuple[str, str, str, Callable[[set[str]], bool]]] = [
    *(
        ("size", f"rows beyond {n} are those {n} before", f"wrapped(0, {n})", _rows)
        for n in _ROWS
    ),
    *(
        ("size", f"columns beyond {n} are those {n} before", f"wrapped(1, {n})", _columns)
        for n in _COLUMNS
    ),
    *(
        ("size", f"the last of every {n} rows is the one before", f"block_end(0, {n})",
         _rows)
        for n in (32, 128)
    ),
    ("size", "the last of every 128 columns is the one before", "block_end(1, 128)", _columns),
    *(
        ("value", f"nothing beyond ± {high:g}", f"within(0, {high!r})", _numbers)
        for high in (10.0, 88.0, 1e4)
    ),
    ("value", "nothing below 1e-12", "within(1e-12, 1e300)", _numbers),
    ("value", "nothing subnormal", _PUBLIC[-1], _numbers),
    ("narrow", "float32 on the way out", "narrowed('float32')", lambda s: any(x.startswith("f64") for x in s)),
    *(
        ("narrow", f"{t} on the way out", f"narrowed('{t}')", lambda s: any(x[0] == "i" for x in s))
        for t in ("int16", "int8")
    ),
    ("stale", "what the first call of these shapes gave", "stale", lambda s: "called" in s),
    ("stale", "what the first call with these objects gave", "stale_by_identity", lambda s: "called" in s),
    ("alias", "results lie in one buffer", "buffered", _rows),
]  # fmt: skip


def _by_function(subject: Subject, returns: Returns) -> Iterator[Mutant]:
    for module, tree in subject.trees().items():
        for name, function in functions(tree):
            seen = returns.get((subject.name, module, name), set())
            if function.decorator_list or name.endswith("__init__") or not subject.mutated(module, name):
                continue
            for rule, what, source, wanted in DECORATORS:
                public = "." in name and "_" not in (name[0], name.split(".")[1][0])
                if wanted(seen) and (public or source not in _PUBLIC):
                    where = f"{subject.name}/{module}.py:{name}"
                    yield Mutant(rule, subject, where, what, edit=_decorate(module, name, source), effect=True)


def _decorate(module: str, name: str, source: str) -> Callable[[Trees], None]:
    def edit(trees: Trees) -> None:
        function = dict(functions(trees[module]))[name]
        decorator = ast.parse(f"_effects.{source}", mode="eval").body
        function.decorator_list.append(ast.fix_missing_locations(ast.copy_location(decorator, function)))

    return edit


def observable(subject: Subject) -> Modules:
    """The subject, right, whose functions write what they return to `effects.SEEN`."""
    trees = subject.trees()
    for module, tree in trees.items():
        for number, place in enumerate(list(places(tree))):
            for node in narrow_on_the_way(place, "noted", (subject.name, module, str(number))):
                place.put(node)
        for name, function in functions(tree):
            if not function.decorator_list:
                _decorate(module, name, f"recorded({(subject.name, module, name)!r})")(trees)
    return subject.load(trees)
