"""Arguments that a function lacks, and where what they mean lives. It only goes into errors."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import wraps
from typing import ParamSpec, TypeVar

from recs_core.contract.errors import SpecError
from recs_core.contract.optimizers import Adam
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.training import TrainingSpec

P = ParamSpec("P")
R = TypeVar("R")

_DEVICE = (
    "it belongs to the model: recs.TwoTower(…, device='cuda') on torch; TensorFlow and JAX find a GPU by themselves"
)
_PRECISION = (
    "mixed precision is for training, on torch: fit(train, precision='bf16'), or "
    "training=recs.TrainingSpec(precision='bf16')"
)
_WORKERS = (
    "fit makes batches in a background thread; workers are for a loop of your own: recs_core_torch.loader(…, "
    "num_workers=4)"
)


def _fields(spec: type, sentence: str) -> dict[str, str]:
    return {field.name: sentence.format(name=field.name) for field in fields(spec)}


_HOMES: Mapping[str, str] = {
    **_fields(RetrievalSpec, "it belongs to the model: retrieval=recs.RetrievalSpec({name}=…)"),
    **_fields(Adam, "it belongs to the optimizer: optimizer=recs.Adam({name}=…)"),
    **_fields(TrainingSpec, "it is for training: fit(train, {name}=…), or training=recs.TrainingSpec({name}=…)"),
    **{name: f"it belongs to the model: recs.TwoTower(…, {name}=…)" for name in ("backend", "dtype", "seed")},
    **dict.fromkeys(("lr", "rate"), "the rate belongs to the optimizer: optimizer=recs.Adam(1e-3)"),
    **dict.fromkeys(("accelerator", "cuda", "device", "devices", "gpu", "use_gpu"), _DEVICE),
    **dict.fromkeys(("amp", "bf16", "fp16", "mixed_precision"), _PRECISION),
    **dict.fromkeys(("num_workers", "pin_memory", "workers"), _WORKERS),
    "verbose": "fit(train, progress=False) trains without a bar",
}
"""Argument → the sentence that says where it lives."""


def home(name: str) -> str | None:
    """Where an argument, or an option of the shell such as `--num-workers`, lives; None where nobody knows it."""
    return _HOMES.get(name.lstrip("-").replace("-", "_"))


def refuse_unknown(asked: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `SpecError` for an argument that `asked` does not know: where it lives, or which one was meant."""
    known = sorted({*known} - {"self"})
    for name in given:
        if name not in known:
            meant = difflib.get_close_matches(name, known, n=1) or known
            raise SpecError(f"{asked}: there is no argument {name!r}; {home(name) or 'there is ' + ', '.join(meant)}")


def knows_its_arguments(asked: str, more: Iterable[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that raises as `refuse_unknown`, in place of Python's `TypeError`. `more`: what its ** takes."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        known = {*more, *(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)}

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            refuse_unknown(asked, kwargs, known)
            return function(*args, **kwargs)

        return checked

    return decorate
