"""The example of a plugin: a whole backend in NumPy that passes the suite without leaning on the oracle."""

import sys
from pathlib import Path

import numpy as np
import pytest

from recs_core.conformance import run
from recs_core.conformance.registry import CHECKS
from recs_core.contract.errors import DataError
from recs_core.contract.retrieval import RetrievalSpec

SOURCE = Path(__file__).parents[2] / "examples" / "numpy_backend_plugin" / "src"
FILES = sorted((SOURCE / "recs_core_numpy").glob("*.py"))


@pytest.fixture
def backend(monkeypatch):
    monkeypatch.syspath_prepend(SOURCE)
    from recs_core_numpy.backend import create

    yield create()
    for name in [name for name in sys.modules if name.split(".")[0] == "recs_core_numpy"]:
        del sys.modules[name]


def test_it_passes_and_refuses_what_it_declines(backend):
    report = run(backend)
    assert report.green, report.table()
    refused = {o.check for o in report.outcomes if o.status == "refused"}
    assert {name for name in refused if name.startswith("encoders/")} == {
        name for name in CHECKS if name.startswith("encoders/")
    }
    assert {name for name in refused if not name.startswith("encoders/")} == {
        *(name for name in CHECKS if name.startswith("distributed/")),
        "weights/adopt",
        "weights/native-loop",
        "training/adopted-step",
        "training/devices",
        "training/bf16",
    }


@pytest.mark.parametrize("code", [-1, 2])
def test_a_code_without_a_bias_is_refused(backend, code):
    task = backend.task(RetrievalSpec(logq=False), weights={"task/bias": np.zeros(2)})
    with pytest.raises(DataError, match=r"candidate_ids must lie in 0 … 1"):
        task(np.eye(2), np.eye(2), candidate_ids=[0, code])


def test_it_is_short_and_does_not_import_the_judge():
    text = "\n".join(file.read_text(encoding="utf-8") for file in FILES)
    assert FILES
    beside_the_manifest = "\n".join(file.read_text(encoding="utf-8") for file in FILES if file.name != "plugin.py")
    assert sum(bool(line.strip()) for line in beside_the_manifest.splitlines()) < 290
    assert "recs_core.reference" not in text
    assert "recs_core.conformance" not in text
