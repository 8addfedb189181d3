"""A tower as an ONNX model: codes and offsets in, vectors out, for a server that has no PyTorch."""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from recs_core.contract.errors import MissingExtra, SpecError, UnsupportedFeature
from recs_core.contract.features import Column
from recs_core.storage.paths import local
from recs_core_torch.adopted import AdoptedTower, evaluating
from recs_core_torch.data import Input
from recs_core_torch.encoders import Encoder, SelfAttentionEncoder, attend_padded
from recs_core_torch.towers import Tower, look_up

OPSET = 18
ROWS, CODES = 2, 3
"""Sizes of the example that is traced. They differ, so that no two axes are taken for one."""


def export_onnx(tower: Tower | AdoptedTower, path: str | Path) -> Path:
    """Write the tower to `path` as ONNX; returns the path.

    Inputs, n rows each, by column: `<name>` int64 codes (n,), rows of the whole table, or numbers (n, length) in the
    tower's dtype; of a column with many codes per row, or a history in order, the oldest first and at most its
    `max_length`, `<name>.values` (nnz,) and `<name>.offsets` (n + 1,), both int64. Output: `vector` (n, output_dim),
    as `tower.embed` gives it.

    Raises `MissingExtra` without the exporter, `UnsupportedFeature` for a history whose encoder reads times, and
    `SpecError` for a module that cannot be exported; none leaves a file behind.
    """
    if isinstance(tower, Tower):
        for encoder in tower.plan.encoders:
            if encoder.spec.reads_time:
                raise UnsupportedFeature(
                    f"export_onnx: {encoder.prefix} reads when past candidates were, which an exported tower is not "
                    "told; serve the bundle with recs.load(path, runtime='numpy'), or train with time=None"
                )
    for module in ("onnx", "onnxscript"):
        if find_spec(module) is None:
            raise MissingExtra(f"ONNX export needs {module}, which is not installed: pip install {module}")
    path = local(path, "export_onnx", SpecError)
    if not path.parent.is_dir():
        raise SpecError(f"cannot write {path}: there is no folder {path.parent}")
    graph = _Graph(tower if tower.like.device.type == "cpu" else deepcopy(tower).cpu())
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
            inputs[column.name] = (next(left), next(left)) if column.kind in ("many", "sequence") else next(left)
        if isinstance(self.tower, AdoptedTower):
            return self.tower.call(inputs)
        maps = dict(zip(self.tower.plan.kernels, self.tower.maps, strict=True))
        encoders = iter(self.tower.encoders)
        parts = []
        for column in self.columns:
            if column.encoder is not None:
                parts.append(_encoded(self.tower, column, next(encoders), *inputs[column.name]))  # type: ignore[arg-type, misc]
            elif column.kernel is not None:
                parts.append(maps[column.kernel](inputs[column.name]))
            else:
                parts.append(_part(self.tower, column, inputs[column.name]))
        return self.tower.dense(torch.cat(parts, 1))

    def example(self) -> dict[str, Tensor]:
        """Inputs to trace with, by name, in the order of the columns."""
        out: dict[str, Tensor] = {}
        for column in self.columns:
            if column.kind == "dense":
                out[column.name] = torch.zeros(ROWS, column.length, dtype=self.tower.like.dtype)
            elif column.kind in ("many", "sequence"):
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


def _encoded(tower: Tower, column: Column, encoder: Encoder, values: Tensor, offsets: Tensor) -> Tensor:
    """(n, width): the last output of each history's encoder, every history padded on the right to the longest allowed;
    of one without codes, zeros."""
    assert column.table is not None
    length, width = encoder.plan.length, encoder.plan.width
    place = offsets[:-1, None] + torch.arange(length)
    # One row more, so that an index that points beyond the last history has something to read.
    codes = torch.cat([values, values.new_zeros(1)])[place.clamp(max=values.shape[0])]
    x = tower.table(column.table).weight[codes]  # (n, length, width)
    if isinstance(encoder, SelfAttentionEncoder):
        places = torch.arange(length).repeat(x.shape[0])
        heads = encoder.spec.heads
        flat = encoder.run(x.reshape(-1, width), places, lambda qkv, _: attend_padded(qkv, heads, length), {})
        out = flat.reshape(-1, length, width)
    else:
        out = _recurrent(encoder, x)
    lengths = offsets[1:] - offsets[:-1]
    last = out[torch.arange(out.shape[0]), (lengths - 1).clamp(min=0)]
    return torch.where((lengths > 0)[:, None], last, torch.zeros_like(last))


def _recurrent(encoder: Encoder, x: Tensor) -> Tensor:
    """A GRU place by place, by the formulas: ONNX knows no gradient by hand."""
    width = x.shape[2]
    for i in range(encoder.plan.spec.layers):
        inputs, state, states = encoder.linear(f"layer_{i}/input", x), torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            a, b = inputs[:, t], encoder.linear(f"layer_{i}/state", state)
            reset, update = torch.sigmoid(a[:, : 2 * width] + b[:, : 2 * width]).chunk(2, 1)
            fresh = torch.tanh(a[:, 2 * width :] + reset * b[:, 2 * width :])
            state = fresh + update * (state - fresh)
            states.append(state)
        x = torch.stack(states, 1)
    return x
