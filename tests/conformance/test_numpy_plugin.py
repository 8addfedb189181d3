"""The example of a plugin: a whole backend in NumPy that passes the suite without leaning on the oracle."""

import sys
from pathlib import Path

import pytest

from recs_core.conformance import run

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
    assert {o.check for o in report.outcomes if o.status == "refused"} == {"weights/adopt", "weights/native-loop"}


def test_it_is_short_and_does_not_import_the_judge():
    text = "\n".join(file.read_text(encoding="utf-8") for file in FILES)
    assert FILES
    assert sum(bool(line.strip()) for line in text.splitlines()) < 310
    assert "recs_core.reference" not in text
    assert "recs_core.conformance" not in text
