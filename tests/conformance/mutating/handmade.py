"""Mutants that no rule makes: each a function that is called in the place of one of the subject's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .subjects import Modules


@dataclass(frozen=True)
class Handmade:
    """`where`: file:function, whose place is taken; `what`: what is wrong. `patch` changes modules that are loaded."""

    rule: str
    subject: str
    where: str
    what: str
    patch: Callable[[Modules], Any]


def maker(table: list[Handmade]) -> Callable[..., Any]:
    """What registers mutants in `table`: `@by_hand(rule, subject, where, what)` over `f(original, *arguments)`."""

    def by_hand(rule: str, subject: str, where: str, what: str) -> Callable[[Any], Any]:
        def register(instead: Callable[..., Any]) -> Callable[..., Any]:
            def patch(modules: Modules) -> None:
                file, _, path = where.partition(".py:")
                owner: Any = modules[file]
                *outer, name = path.split(".")
                for part in outer:
                    owner = getattr(owner, part)
                original = getattr(owner, name)

                @functools.wraps(original)
                def call(*args: Any, **kwargs: Any) -> Any:
                    return instead(original, *args, **kwargs)

                setattr(owner, name, call)

            table.append(Handmade(rule, subject, where, what, patch))
            return instead

        return register

    return by_hand
