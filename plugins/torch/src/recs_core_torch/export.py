"""A tower as an ONNX model: codes and offsets in, vectors out, for a server that has no PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from recs_core.contract.errors import MissingExtra, SpecError
from recs_core.contract.features import Column
from recs_core.storage.paths import local
from recs_core_torch.adopted import AdoptedTower, evaluating
from recs_core_torch.data import Input
from recs_core_torch.towers import Tower, look_up

OPSET = 18
ROWS, CODES = 2, 3
"""Sizes of the example that is traced. They differ, so that no two axes are taken for one."""


def export_onnx(tower: Tower | AdoptedTower, path: str | Path) -> Path:
    """Write the tower to `path` as ONNX; returns the path.

    Inputs, n rows each, by column: `<name>` int64 codes (n,), rows of the whole table, or numbers (n, length) in the
    tower's dtype; of a column with many codes per row, `<name>.values` (nnz,) and `<name>.offsets` (n + 1,), both
    int64. Output: `vector` (n, output_dim), as `tower.embed` gives it.

    Raises `MissingExtra` without the exporter and `SpecError` for a module that cannot be exported; neither leaves a
    file behind.
    """
    for module in ("onnx", "onnxscript"):
        if find_spec(module) is None:
            raise MissingExtra(f"ONNX export needs {module}, which is not installed: pip install {module}")
    path = local(path, "export_onnx", SpecError)
    if not path.parent.is_dir():
        raise SpecError(f"cannot write {path}: there is no folder {path.parent}")
    graph = _Graph(tower)
    example = graph.example()
    try:
        with evaluating(graph):
            program = torch.onnx.export(
                graph,
                tuple(example.values()),
                input_names=list(example),
                output_names=["vector"],
                opset_version=OPSET,
                dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in example),),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise SpecError(f"the {tower.side} tower cannot be exported to ONNX: {reason}") from error
    assert program is not None
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        program.save(Path(folder) / path.name)
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            file.replace(path.parent / file.name)  # tables above 2 GB lie beside it; the model itself comes last
    return path


class _Graph(nn.Module):
    """The tower as a function of tensors alone, in operations that ONNX has."""

    def __init__(self, tower: Tower | AdoptedTower) -> None:
        super().__init__()
        self.tower = tower
        self.columns = tower.columns if isinstance(tower, AdoptedTower) else tower.plan.columns

    def forward(self, *tensors: Tensor) -> Tensor:
        left, inputs = iter(tensors), dict[str, Input]()
        for column in self.columns:
            inputs[column.name] = (next(left), next(left)) if column.kind == "many" else next(left)
        if isinstance(self.tower, AdoptedTower):
            return self.tower.call(inputs)
        maps = dict(zip(self.tower.plan.kernels, self.tower.maps, strict=True))
        parts = [
            _part(self.tower, c, inputs[c.name]) if c.kernel is None else maps[c.kernel](inputs[c.name])
            for c in self.columns
        ]
        return self.tower.dense(torch.cat(parts, 1))

    def example(self) -> dict[str, Tensor]:
        """Inputs to trace with, by name, in the order of the columns."""
        out: dict[str, Tensor] = {}
        for column in self.columns:
            if column.kind == "dense":
                out[column.name] = torch.zeros(ROWS, column.length, dtype=self.tower.like.dtype)
            elif column.kind == "many":
                out[f"{column.name}.values"] = torch.zeros(CODES, dtype=torch.long)
                out[f"{column.name}.offsets"] = torch.tensor([0, 1, CODES])
            else:
                out[column.name] = torch.zeros(ROWS, dtype=torch.long)
        return out


def _part(tower: Tower, column: Column, value: Input) -> Tensor:
    """(n, width): what the tower looks up for one column. ONNX has no bags: many rows are pooled step by step."""
    if isinstance(value, Tensor) or column.table is None:
        return look_up({name: tower.table(name) for name in tower.plan.tables}, column, value)
    values, offsets = value  # type: ignore[misc]
    rows = tower.table(column.table).weight[values]
    segment = (torch.arange(rows.shape[0])[:, None] >= offsets[None, 1:]).sum(1)
    pooled = rows.new_zeros(offsets.shape[0] - 1, column.width).index_add(0, segment, rows)
    return pooled / (offsets[1:] - offsets[:-1]).clamp(min=1)[:, None] if column.mean else pooled
