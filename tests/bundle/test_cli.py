"""`recs bundle` and `recs recommend`, as typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recs_core.cli.main import main
from recs_core.loading import load

V1 = str(Path(__file__).parent / "kept" / "v1")
ANSWERS = json.loads((Path(V1).parent / "v1.json").read_text())


@pytest.fixture
def recs(capsys, monkeypatch):
    """Run `recs …`; its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))

    def run(*arguments):
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_recommend_as_json(recs):
    code, out, _ = recs("recommend", V1, "--query", 100, "--query", 103, "-k", 5, "--json")
    assert code == 0
    found = json.loads(out)
    assert [answer["query"] for answer in found] == ["100", "103"]
    for answer, row in zip(found, (0, 3), strict=True):
        assert [candidate["id"] for candidate in answer["candidates"]] == ANSWERS["ids"][row]
        assert [candidate["score"] for candidate in answer["candidates"]] == pytest.approx(
            ANSWERS["scores"][row], rel=1e-5
        )


def test_recommend_to_people(recs):
    code, out, _ = recs("recommend", V1, "--query", 100, "-k", 2)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["user", "rank", "item", "score"]
    assert rows[1] == ["100", "1", ANSWERS["ids"][0][0], f"{ANSWERS['scores'][0][0]:.4f}"]
    assert rows[2][:2] == ["100", "2"]


def test_recommend_for_a_file(recs, tmp_path):
    pq.write_table(pa.table({"user": ANSWERS["queries"]}), tmp_path / "q.parquet")
    job = ("recommend", V1, "--queries", tmp_path / "q.parquet", "--out", tmp_path / "r.parquet", "-k", 5)
    code, out, _ = recs(*job)
    assert (code, out) == (0, f"answered 7 queries; {tmp_path / 'r.parquet'}\n")
    assert pq.read_table(tmp_path / "r.parquet")["item"].to_pylist() == ANSWERS["ids"]
    code, _, err = recs(*job)
    assert code == 2
    assert "exists; choose another --out, or --force" in err
    assert recs(*job, "--force", "--json")[0] == 0


HASTY = """
import numpy as np
from recs_core.contract.protocols import TopK
from recs_core.plugin import INDEX_CAPABILITIES, IndexInfo, No, hookimpl

CAPABILITIES = {name: No("in a hurry") for name in INDEX_CAPABILITIES}
INFO = IndexInfo("hasty", "hasty_index:Hasty", "0 … k − 1", recall_floor=0.25, capabilities=CAPABILITIES)

@hookimpl
def recs_indexes():
    return [INFO]

class Hasty:
    info = INFO

    def build(self, vectors):
        self.vectors = vectors

    def search(self, queries, k):
        ids = np.tile(np.arange(k), (len(queries), 1))
        return TopK(ids, np.take_along_axis(queries @ self.vectors.T, ids, 1))
"""
NOTE = "recs: index 'hasty' is approximate, by its manifest recall@10 ≥ 0.25\n"


@pytest.fixture
def hasty(tmp_path, monkeypatch):
    """An approximate index, installed."""
    site = tmp_path / "site"
    info = site / "recs_hasty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recs-hasty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recs_core.indexes]\nhasty = hasty_index\n")
    (site / "hasty_index.py").write_text(HASTY)
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("hasty_index", None)


def test_recommend_by_an_approximate_index_which_is_said(recs, hasty):
    first = load(V1, runtime="numpy").schema.candidates.ids[:2].to_pylist()
    code, out, err = recs("recommend", V1, "--query", 100, "-k", 2, "--index", "hasty")
    assert (code, err) == (0, NOTE)
    assert [line.split()[2] for line in out.splitlines()[1:]] == first
    code, out, err = recs("recommend", V1, "--query", 100, "-k", 2, "--index", "hasty", "--json")
    assert (code, err) == (0, NOTE)
    assert [candidate["id"] for candidate in json.loads(out)[0]["candidates"]] == first


def test_recommend_by_an_exact_index_says_nothing_more(recs):
    asked = ("recommend", V1, "--query", 100, "-k", 2)
    assert recs(*asked, "--index", "exact") == recs(*asked)


def test_recommend_by_an_unknown_index_names_those_that_are_there(recs, hasty):
    code, out, err = recs("recommend", V1, "--query", 100, "--index", "hastey")
    assert (code, out) == (2, "")
    assert err.startswith("recs: no index 'hastey' (asked for by recs recommend --index) is installed, only: ")
    assert "only: exact, " in err and ", hasty" in err
    assert err.endswith("did you mean 'hasty'?\n")


def test_tuning_tries_what_a_bundle_can_hold_unless_an_index_is_named(recs, hasty):
    code, out, _ = recs("index", "tune", V1, "--queries", 5, "--json")
    assert code == 0
    specs = {tried["spec"].partition(":")[0] for tried in json.loads(out)["tried"]}
    assert {"exact", "int8"} <= specs and "hasty" not in specs
    code, out, _ = recs("index", "tune", V1, "--queries", 5, "--index", "hasty", "--json")
    assert code == 0 and [tried["spec"] for tried in json.loads(out)["tried"]] == ["exact", "hasty"]


def test_recommend_for_a_file_by_an_index(recs, hasty, tmp_path):
    pq.write_table(pa.table({"user": ANSWERS["queries"]}), tmp_path / "q.parquet")
    job = ("recommend", V1, "--queries", tmp_path / "q.parquet", "--out", tmp_path / "r.parquet", "-k", 2)
    code, out, err = recs(*job, "--index", "hasty", "--json")
    assert (code, err) == (0, NOTE)
    assert json.loads(out)["index"] == "hasty"
    first = load(V1, runtime="numpy").schema.candidates.ids[:2].to_pylist()
    assert pq.read_table(tmp_path / "r.parquet")["item"].to_pylist() == [first] * len(ANSWERS["queries"])


def test_recommend_imports_what_it_needs_and_no_more():
    frameworks = {"keras", "torch", "tensorflow", "jax"}
    slow = {"pandas", "pyarrow.parquet", "pyarrow.csv", "numpy.ma", "rich"}
    training = {"recs_core.training", "recs_core.two_tower", "recs_core.data.encoded", "recs_core.data.batching"}
    code = (
        "import sys; from recs_core.cli.main import main\n"
        f"try: main(['recommend', {V1!r}, '--query', '100'])\n"
        "except SystemExit as error: assert not error.code\n"
        f"print(*sorted({frameworks | slow | training!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_info(recs):
    code, out, _ = recs("bundle", "info", V1)
    assert code == 0
    for text in ("2 epochs on oracle", "60 rows, 7 queries, 9 candidates", "Bag(name='tags'", "weights-"):
        assert text in out
    found = json.loads(recs("bundle", "info", V1, "--json")[1])
    assert found["manifest"]["version"] == 1
    assert found["leftovers"] == []


def test_verify(recs, tmp_path):
    code, out, _ = recs("bundle", "verify", V1)
    assert code == 0
    assert "whole, 8 files" in out
    assert json.loads(recs("bundle", "verify", V1, "--json")[1])["verified"] is True
    for path in Path(V1).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = next(tmp_path.glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    code, out, err = recs("bundle", "verify", tmp_path)
    assert (code, out) == (2, "")
    assert err == (
        f"recs: {weights}: is damaged, its SHA-256 is not the one in the manifest; "
        "copy it anew from where it is whole, or make it again\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((V1,), "name the queries"),
        ((V1, "--query", "1", "--queries", "q.parquet"), "name the queries"),
        ((V1, "--queries", "q.parquet"), "go together"),
        ((V1, "--queries", "q.parquet", "--out", "r.csv"), "got 'r.csv'; name it r.parquet"),
        ((V1, "--query", "one"), "'user' are integers"),
        ((V1, "--query", "100", "--unknown", "guess"), "--unknown is oov, popular, error"),
        ((V1, "--query", "9", "--unknown", "error"), "never seen in training"),
        (("nowhere", "--query", "1"), "no such folder"),
        ((str(Path(V1).parent), "--query", "1"), "is no bundle"),
    ],
)
def test_mistakes_are_one_line(recs, arguments, said):
    code, out, err = recs("recommend", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
