"""The README's Python, run as it stands: trained in torch, loaded in TensorFlow and by NumPy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from tests.parity.marks import EVERY_BACKEND

pytestmark = EVERY_BACKEND

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks[:2]:
        exec(compile(block, str(README), "exec"), names)
    assert float(capsys.readouterr().out.split()[0]) > 0.12  # recall@20, which the quality page has
    asked = {"queries": ["12347"], "k": 5, "exclude": "seen"}
    lists = [names[model].recommend(**asked).ids for model in ("model", "tf", "bare")]
    np.testing.assert_array_equal(lists[1], lists[0])
    np.testing.assert_array_equal(lists[2], lists[0])

    exec(compile(blocks[2], str(README), "exec"), names)
    declared = names["model"]
    declared.fit(names["train"].take(np.arange(5000)), epochs=1, progress=False)
    assert declared.backend_name == "keras[jax]"
    assert isinstance(declared, recs.TwoTower)
