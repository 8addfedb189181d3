"""The context of requests on the shell: typed for a few queries, in columns of a file of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import recs_core as recs
from recs_core.cli.main import app
from recs_core.contract.errors import DataError
from recs_core.reference.backend import OracleBackend
from recs_core.runtime.batch import Job, recommend_file
from recs_core.runtime.requests import Requests


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(2)
    table = {
        "user": random.integers(0, 6, 80),
        "item": [f"i{n}" for n in random.integers(0, 8, 80)],
        "t": 1.6e9 + np.arange(80) * 3_600,
        "device": random.choice(["ios", "web"], 80),
        "page": random.integers(0, 5, 80),
    }
    data = recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t")
    query = recs.TowerSpec(
        [recs.Categorical("user", dim=3), recs.Categorical("device", dim=3), recs.Numeric("page"), recs.Clock("t")],
        layers=[4],
    )
    model = recs.TwoTower(query, recs.TowerSpec([recs.Categorical("item", dim=4)]), backend=OracleBackend())
    model.fit(data, epochs=2, progress=False)
    return model.save(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def model(bundle: Path) -> Any:
    return recs.load(bundle, runtime="numpy")


def test_what_is_typed_is_what_recommend_is_given(bundle: Path, model: Any) -> None:
    asked = ["--query", "3", "--query", "1", "-k", "2", "--json", "--context", "device=web", "--context", "page=4"]
    done = CliRunner().invoke(app, ["recommend", str(bundle), *asked, "--at", "2020-09-14T05:00"])
    assert done.exit_code == 0, done.output
    found = model.recommend([3, 1], 2, context={"device": ["web"] * 2, "page": [4, 4]}, at="2020-09-14T05:00")
    listed = [[candidate["id"] for candidate in answer["candidates"]] for answer in json.loads(done.stdout)]
    assert listed == found.ids.tolist()


def test_a_file_has_the_context_of_each_of_its_queries(bundle: Path, model: Any, tmp_path: Path) -> None:
    asked = {"user": [3, 1, 9], "device": ["web", "ios", "?"], "page": [4, 0, 2], "t": [1.6e9, 1.61e9, 1.62e9]}
    context = {name: asked[name] for name in ("device", "page")}
    expected = model.recommend(asked["user"], 3, context=context, at=asked["t"], unknown="popular")
    pq.write_table(pa.table(asked), tmp_path / "q.parquet", row_group_size=2)
    (tmp_path / "q.csv").write_text(
        "user,device,page,t\n" + "".join(f"{u},{d},{p},{t}\n" for u, d, p, t in zip(*asked.values(), strict=True))
    )
    for name in ("q.parquet", "q.csv"):
        out = tmp_path / f"{name}.out.parquet"
        recommend_file(model, Job(tmp_path / name, out, bundle="x", k=3, unknown="popular"))
        assert pq.read_table(out)["item"].to_pylist() == expected.ids.tolist()
    fixed = tmp_path / "fixed.parquet"
    job = Job(tmp_path / "q.parquet", fixed, bundle="x", k=3, context=("device=ios",), at="2020-09-14")
    recommend_file(model, job)
    same = {"device": ["ios"] * 3, "page": asked["page"]}
    with pytest.warns(UserWarning, match="never seen"):
        expected = model.recommend(asked["user"], 3, context=same, at="2020-09-14")
    assert pq.read_table(fixed)["item"].to_pylist() == expected.ids.tolist()


@pytest.mark.parametrize(
    ("said", "at", "message"),
    [
        ((), None, r"reads 'device', 'page' of a request: say --context device=VALUE, or --context blank"),
        (("device=ios",), None, "reads 'page' of a request"),
        (("device",), None, r"--context is NAME=VALUE, as in --context device=ios, or blank; got 'device'"),
        (("color=red",), None, "does not read 'color' of a request; it reads device, page"),
        (("t=5",), None, "'t' is the time of the request; say --at 5"),
        (("blank", "device=ios"), None, "says that nothing is known of the request"),
        (("blank",), "soon", "--at: 'soon' is no time"),
        (("blank",), "2026", "--at: '2026' is no time"),
        (("device=ios", "device=web", "page=1"), None, "--context: 'device' is said twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(model: Any, said: tuple[str, ...], at: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Requests.of(model.query, model.schema, said, at)


def test_a_time_may_be_typed_in_seconds(model: Any) -> None:
    asked = [
        Requests.of(model.query, model.schema, ("device=ios", "page=1"), at)
        for at in ("1600000000", "2020-09-13T12:26:40")
    ]
    one, other = (model.encode_query([1], **each.asks(pa.table({"user": [1]}))) for each in asked)
    np.testing.assert_array_equal(one, other)


def test_a_job_is_not_asked_as_of_now(model: Any, tmp_path: Path) -> None:
    """It would have other answers when it is finished later."""
    pq.write_table(pa.table({"user": [1], "device": ["ios"], "page": [1]}), tmp_path / "q.parquet")
    with pytest.raises(DataError, match=r"reads the time of a request: add 't' to .*q\.parquet, or say --at"):
        recommend_file(model, Job(tmp_path / "q.parquet", tmp_path / "out.parquet", bundle="x"))
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_model_that_reads_no_context_is_given_none() -> None:
    table = {"user": ["u"], "item": ["i"]}
    towers = recs.TowerSpec([recs.Categorical("user", dim=2)]), recs.TowerSpec([recs.Categorical("item", dim=2)])
    model = recs.TwoTower(*towers, backend=OracleBackend())
    model.fit(recs.Interactions.from_table(table, query="user", candidate="item"), epochs=1, progress=False)
    for said, at in ((("device=ios",), None), (("blank",), None), ((), "2020-01-01")):
        with pytest.raises(DataError, match="leave it out"):
            Requests.of(model.query, model.schema, said, at)
    assert Requests.of(model.query, model.schema, (), None).asks(pa.table({"id": ["u"]})) == {}
