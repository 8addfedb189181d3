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
    assert err == f"recs: {weights}: is damaged, its SHA-256 is not the one in the manifest\n"


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
