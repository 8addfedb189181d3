"""A user's own `nn.Module` behind the face of a tower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recs_core.contract.batch import Batch, Features, Ragged, Side
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.features import Column
from recs_core.contract.plans import as_columns
from recs_core_torch.data import Input, TensorBatch, TensorFeatures


class AdoptedTower(nn.Module):
    """A user's own module as a tower. It takes one column positionally, or several as a dict by name.

    A column arrives as its `kind` says: "one" as int64 codes (n,); "many" as a tuple (values (nnz,), offsets (n + 1,)),
    both int64, the codes of row i being values[offsets[i]:offsets[i + 1]], a history's oldest first; "dense" as numbers
    (n, width). It returns (n, output_dim), and keeps its own weights; each that requires a gradient moves at every
    step.
    """

    plan = None
    side: Side = "query"

    def __init__(self, module: nn.Module, columns: Sequence[Column], output_dim: int | None):
        super().__init__()
        self.columns, self.native = tuple(columns), module
        self.output_dim = self._probe() if output_dim is None else output_dim

    @property
    def like(self) -> Tensor:
        """A tensor of the device and dtype that inputs take."""
        return next(self.native.parameters())

    def forward(self, features: Features | Batch | TensorBatch) -> Tensor:
        """(n, output_dim), from codes that are rows of whole tables; a batch gives its own side."""
        own = features if isinstance(features, Features) else features.side(self.side)
        given = TensorFeatures.of(own) if isinstance(own, Features) else own
        output = self._output(given)
        self._check(output, (given.size, self.output_dim))
        return output

    def call(self, inputs: Mapping[str, Input]) -> Any:
        """What the module makes of its columns by name."""
        given = {column.name: inputs[column.name] for column in self.columns}
        return self.native(*given.values()) if len(given) == 1 else self.native(given)

    @torch.no_grad()
    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim): the module's output in evaluation mode."""
        with evaluating(self.native):
            return self(features).cpu().numpy()

    def canonical(self) -> dict[str, Tensor]:
        """`<side>/native/<name>` → each parameter, and each buffer of numbers, which a bundle keeps too."""
        own = {**dict(self.native.named_parameters()), **dict(self.native.named_buffers())}
        return {f"{self.side}/native/{name}": tensor for name, tensor in own.items() if tensor.is_floating_point()}

    def _output(self, features: TensorFeatures) -> Any:
        inputs = features.like(self.like).columns
        for column in self.columns:
            if column.name not in inputs:
                given = ", ".join(inputs) or "none"
                raise DataError(f"the adopted {self.side} module takes {column.name!r}; it was given {given}")
        return self.call({name: _long_codes(value) for name, value in inputs.items()})

    @torch.no_grad()
    def _probe(self) -> int:
        """Width of the output, from two rows of code 0 and numbers of 0."""
        codes, dense = {}, {}
        for column in self.columns:
            if column.kind == "dense":
                dense[column.name] = np.zeros((2, column.length))
            else:
                codes[column.name] = np.zeros(2, np.int32) if column.kind == "one" else Ragged.of([[0], [0, 0]])
        try:
            with evaluating(self.native):  # a batch norm learns nothing of it
                output = self._output(TensorFeatures.of(Features(2, codes, dense)))
        except Exception as error:
            names, reason = ", ".join(column.name for column in self.columns), str(error).splitlines()
            raise SpecError(
                f"adopt: {self._name} failed on code 0 of {names} ({reason[0] if reason else type(error).__name__}); "
                "state output_dim="
            ) from error
        width = output.shape[-1] if isinstance(output, Tensor) and output.ndim else 0
        self._check(output, (2, width))
        return int(width)

    def _check(self, output: Any, expected: tuple[int, int]) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if shape != expected:
            raise SpecError(f"adopt: {self._name} must return a tensor of shape {expected}; it returned {shape}")

    @property
    def _name(self) -> str:
        return type(self.native).__name__


def adopt(module: Any, features: Sequence[Column | str], output_dim: int | None = None) -> AdoptedTower:
    """The module as a tower; see `Backend.adopt`."""
    if not isinstance(module, nn.Module):
        raise SpecError(f"adopt: the torch backend takes a torch.nn.Module, got {type(module).__name__}")
    columns = as_columns(features)
    named = dict(module.named_parameters())
    if not named:
        raise SpecError(f"adopt: {type(module).__name__} has no parameters, so there is nothing to train")
    for name, parameter in named.items():
        if not torch.isfinite(parameter).all():
            raise DataError(f"adopt: parameter {name!r} of {type(module).__name__} holds NaN or infinity")
    return AdoptedTower(module, columns, output_dim)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """No gradient and no dropout inside; afterwards each part in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def _long_codes(value: Input) -> Input:
    """Codes as int64, which every layer takes."""
    if isinstance(value, tuple):
        return value[0].long(), value[1].long()
    assert isinstance(value, Tensor)
    return value if value.is_floating_point() else value.long()
