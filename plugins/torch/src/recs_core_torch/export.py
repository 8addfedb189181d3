"""A tower as an ONNX model: codes and offsets in, vectors out, for a server that has no PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recs_core.contract.batch import Features, Ragged
from recs_core.contract.errors import MissingExtra, SpecError
from recs_core.storage.paths import local
from recs_core_torch.towers import AdoptedTower, Tower

OPSET = 18
ROWS, CODES = 2, 3
"""Sizes of the example that is traced. They differ, so that no two axes are taken for one."""


def export_onnx(tower: Tower | AdoptedTower, path: str | Path) -> Path:
    """Write the tower to `path` as ONNX; returns the path.

    Inputs, n rows each: `<feature>` int64 codes (n,), rows of the whole table, or float numbers (n,), standardised; of
    a feature with several codes a row, `<feature>.values` (nnz,) and `<feature>.offsets` (n + 1,), both int64. Output:
    `vector` (n, output_dim), as `tower.embed` gives it.

    Raises `MissingExtra` without the exporter and `SpecError` for a module that cannot be exported; neither leaves a
    file behind.
    """
    for module in ("onnx", "onnxscript"):
        if find_spec(module) is None:
            raise MissingExtra(f"ONNX export needs {module}, which is not installed: pip install {module}")
    path = local(path, "export_onnx", SpecError)
    if not path.parent.is_dir():
        raise SpecError(f"cannot write {path}: there is no folder {path.parent}")
    example = _example(tower)
    try:
        program = torch.onnx.export(
            _Graph(tower, list(example)).eval(),
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


def onnx_inputs(features: Features) -> dict[str, NDArray[Any]]:
    """The features as an exported tower takes them."""
    out: dict[str, NDArray[Any]] = {name: np.asarray(value, np.float32) for name, value in features.dense.items()}
    for name, codes in features.codes.items():
        if isinstance(codes, Ragged):
            out[f"{name}.values"] = codes.values.astype(np.int64)
            out[f"{name}.offsets"] = codes.offsets.astype(np.int64)
        else:
            out[name] = codes.astype(np.int64)
    return out


class _Graph(nn.Module):
    """The tower as a function of tensors alone, in operations that ONNX has."""

    def __init__(self, tower: Tower | AdoptedTower, names: list[str]) -> None:
        super().__init__()
        self.tower, self.names = tower, names

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self.names, tensors, strict=True))
        if isinstance(self.tower, AdoptedTower):
            return self.tower.native(*tensors) if len(tensors) == 1 else self.tower.native(given)
        columns = []
        for feature in self.tower.spec.features:
            if feature.table_name is None:
                columns.append(given[feature.name][:, None])
                continue
            table = self.tower.table(feature.table_name).weight
            if feature.name in given:
                columns.append(table[given[feature.name]])
            else:
                values, offsets = given[f"{feature.name}.values"], given[f"{feature.name}.offsets"]
                columns.append(_pooled(table[values], offsets, mean=feature.pooling == "mean"))  # type: ignore[attr-defined]
        return self.tower.layers(torch.cat(columns, 1))


def _pooled(rows: Tensor, offsets: Tensor, *, mean: bool) -> Tensor:
    """(n, dim): Σ or mean of rows[offsets[i]:offsets[i + 1]]; none is zeros."""
    position = torch.arange(rows.shape[0])[:, None]
    segment = (position >= offsets[None, 1:]).sum(1)
    pooled = torch.zeros(offsets.shape[0] - 1, rows.shape[1], dtype=rows.dtype)
    pooled = pooled.index_add(0, segment, rows)
    lengths = (offsets[1:] - offsets[:-1]).clamp(min=1)
    return pooled / lengths[:, None] if mean else pooled


def _example(tower: Tower | AdoptedTower) -> dict[str, Tensor]:
    """Inputs to trace with, by name."""
    if isinstance(tower, AdoptedTower):
        return {name: torch.zeros(ROWS, dtype=torch.long) for name in tower.features}
    out: dict[str, Tensor] = {}
    for feature in tower.spec.features:
        if feature.table_name is None:
            out[feature.name] = torch.zeros(ROWS, dtype=next(tower.parameters(), torch.empty(0)).dtype)
        elif hasattr(feature, "pooling"):
            out[f"{feature.name}.values"] = torch.zeros(CODES, dtype=torch.long)
            out[f"{feature.name}.offsets"] = torch.tensor([0, 1, CODES])
        else:
            out[feature.name] = torch.zeros(ROWS, dtype=torch.long)
    return out
