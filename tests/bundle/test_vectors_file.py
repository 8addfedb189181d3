"""A bundle's vectors as a Parquet file: those that the model answers by, and facts that are enough to ask them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recs_core as recs
from recs_core import exporting
from recs_core.cli.main import main
from recs_core.contract.errors import BundleError, DataError
from tests.bundle import small


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learned temperature, and a tower of every kind of feature."""
    return small.fitted(small.every_feature()).save(tmp_path_factory.mktemp("vectors") / "bundle")


def facts_of(file: Path) -> dict:
    return json.loads(pq.read_schema(file).metadata[b"recs-core"])


def vectors_of(table: pa.Table, column: str = "vector") -> np.ndarray:
    return np.array(table[column].to_pylist(), np.float32)


@pytest.mark.parametrize(
    "retrieval",
    [
        recs.RetrievalSpec(scoring="dot"),
        recs.RetrievalSpec(scoring="cosine", temperature=0.2),
        recs.RetrievalSpec(scoring="cosine", temperature=0.2, candidate_bias=True),
    ],
)
def test_by_the_file_alone_a_query_finds_what_the_model_recommends(
    retrieval: recs.RetrievalSpec, tmp_path: Path
) -> None:
    saved = small.fitted(small.every_feature(retrieval=retrieval)).save(tmp_path / "bundle")
    recs.export_vectors(saved, tmp_path / "v.parquet")
    table, facts = pq.read_table(tmp_path / "v.parquet"), facts_of(tmp_path / "v.parquet")
    assert facts["metric"] == "inner product"
    assert facts["cosine_ranks_alike"] is (retrieval.scoring == "cosine" and not retrieval.candidate_bias)
    names, corpus = table[facts["id"]].to_pylist(), vectors_of(table, facts["vector"])
    assert corpus.shape == (facts["rows"], facts["dim"]) == (9, 5 + retrieval.candidate_bias)
    model = recs.load(saved, runtime="numpy")
    for query in (100, 103):
        (asked,) = model.encode_query([query])
        scores = corpus.astype(np.float64) @ asked
        due = model.recommend([query], k=9)
        assert [names[place] for place in np.argsort(-scores, kind="stable")] == due.ids[0].tolist()
        np.testing.assert_allclose(np.sort(scores)[::-1], due.scores[0], rtol=1e-5)
    if facts["cosine_ranks_alike"]:
        np.testing.assert_allclose(np.linalg.norm(corpus, axis=1), 1 / 0.2, rtol=1e-5)


def test_it_holds_the_attributes_and_says_what_a_query_is_made_of(bundle: Path, tmp_path: Path) -> None:
    recs.export_vectors(bundle, tmp_path / "v.parquet")
    table, facts = pq.read_table(tmp_path / "v.parquet"), facts_of(tmp_path / "v.parquet")
    assert table.column_names == ["item", "vector", "title", "price"]  # of lists no filter is made
    assert table.schema.field("vector").type == pa.list_(pa.float32(), facts["dim"])
    given = small.interactions().candidates
    assert table.select(["item", "title", "price"]).to_pydict() == given.select(["item", "title", "price"]).to_pydict()
    assert facts["bundle"] == recs.bundle.info(bundle).manifest["digest"]
    assert facts["query"]["id"] == "user" and facts["query"]["reads"] == ["user", "item", "age"]


@pytest.mark.parametrize("stored", [True, False])
def test_it_is_made_a_piece_at_a_time(stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of 4, 4 and 1 candidates, whether the bundle holds vectors or its tower makes them."""
    saved = small.fitted(small.every_feature()).save(tmp_path / "bundle", include_vectors=stored)
    monkeypatch.setattr(exporting, "EMBED_ROWS", 4)
    recs.export_vectors(saved, tmp_path / "v.parquet")
    file = pq.ParquetFile(tmp_path / "v.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4, 4, 1]
    due = recs.load(saved, runtime="numpy").encode_candidate()
    np.testing.assert_allclose(vectors_of(file.read()), due, rtol=1e-6)


def test_what_is_there_stays_unless_it_may_be_replaced(bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "v.parquet"
    there.write_text("mine")
    with pytest.raises(DataError, match="exists; name another file, or pass force=True"):
        recs.export_vectors(bundle, there)
    assert there.read_text() == "mine"
    recs.export_vectors(bundle, there, force=True)
    assert len(pq.read_table(there)) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["v.parquet"]


def test_a_column_that_is_called_as_the_vectors_would_be(tmp_path: Path) -> None:
    data = recs.Interactions.from_table(
        {"user": [1, 2, 1], "item": ["a", "b", "b"]},
        query="user",
        candidate="item",
        candidates={"item": ["a", "b"], "vector": [1.0, 2.0]},
    )
    saved = small.fitted(small.ids_only(), data).save(tmp_path / "bundle")
    with pytest.raises(DataError, match="have a column 'vector' already"):
        recs.export_vectors(saved, tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()
    recs.export_vectors(saved, tmp_path / "v.parquet", column="embedding")
    assert pq.read_schema(tmp_path / "v.parquet").names == ["item", "embedding", "vector"]


def test_nothing_is_written_of_what_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        recs.export_vectors(tmp_path, tmp_path / "v.parquet")
    with pytest.raises(DataError, match="is a folder"):
        recs.export_vectors(bundle, tmp_path)
    assert list(tmp_path.iterdir()) == []


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["bundle", "vectors", *map(str, arguments)])
    return int(ended.value.code or 0), *capsys.readouterr()


def test_the_command(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v.parquet"
    assert said(capsys, bundle, "--to", file) == (0, f"{file}: 9 vectors of 6 numbers, metric inner product\n", "")
    code, _, err = said(capsys, bundle, "--to", file)
    assert code == 2 and "exists; choose another --to, or --force" in err
    code, out, _ = said(capsys, bundle, "--to", file, "--force", "--column", "embedding", "--json")
    assert code == 0
    assert json.loads(out) == {"to": str(file), **facts_of(file)}
    assert facts_of(file)["vector"] == "embedding"
    for path, name, why in (
        (bundle, "v.csv", "got 'v.csv'; name it v.parquet"),
        (tmp_path / "none", "w.parquet", "no such folder"),
        (bundle, "v.parquet/x.parquet", "is a file, not a folder"),
    ):
        code, _, err = said(capsys, path, "--to", tmp_path / name)
        assert (code, err.count("\n")) == (2, 1) and why in err
