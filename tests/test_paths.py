"""Every path that the library takes: `~` is a home folder, a URL is refused, nothing is made by a refusal."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

import recs_core as recs
from recs_core import bundle, datasets
from recs_core.cli.main import main
from recs_core.config import CONFIG_VARIABLE
from recs_core.contract.errors import BundleError, ConfigError, DataError, RecsError
from recs_core.experiment import DataSpec, Experiment, absolute, execute
from recs_core.index import CandidateIndex
from recs_core.runtime.batch import Job, recommend_file
from recs_core.storage.paths import local
from tests.bundle.small import fitted, ids_only, interactions

URLS = ["s3://bucket/x", "gs://bucket/x", "hdfs://host/x", "az://box/x", "abfss://box@host/x", "https://host/x",
        "file:///x", "file:/x", "dbfs:/x", "S3://bucket/x", "memory://x", Path("s3://bucket/x")]  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder; the working folder is beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("path", URLS, ids=str)
def test_a_url_is_refused(path):
    with pytest.raises(ConfigError, match=r"^save: '[a-z0-9]+://.* is a URL[,;] ") as caught:
        local(path, "save")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("s3a://b/x", r"copy with the store's own tool \(aws s3 cp --recursive\), or mount the store$"),
        ("gs://b", r"\(gcloud storage cp --recursive\)"),
        ("other://b", "with the store's own tool, or mount"),
        ("file:///a/b", "write the path itself, '/a/b'$"),
    ],
)
def test_a_refusal_says_what_to_do(url, advice):
    with pytest.raises(ConfigError, match=advice):
        local(url, "load")


@pytest.mark.parametrize(
    "path", ["x" * 5000, "a/" * 3000, "circle", "circle/x"], ids=["name", "depth", "link", "below"]
)
def test_a_path_that_the_system_cannot_look_up_is_refused_by_all(home, path):
    Path("circle").symlink_to("circle")
    model = fitted(ids_only(), interactions())
    for call in (
        lambda: model.save(path),
        lambda: recs.load(path),
        lambda: recs.TwoTower.resume(path),
        lambda: bundle.info(path),
        lambda: model.fit(interactions(), epochs=1, checkpoint=path),
        lambda: recs.Interactions.from_table(f"{path}.csv" if path[0] != "c" else path, query="user", candidate="item"),
    ):
        with pytest.raises(RecsError, match="cannot be a path here") as caught:
            call()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert [found.name for found in Path().iterdir()] == ["circle"]


def test_any_path_object_names_a_table(home):
    class Named:
        def __fspath__(self):
            return "x.csv"

    Path("x.csv").write_text("user,item\n1,2\n")
    assert len(recs.Interactions.from_table(Named(), query="user", candidate="item", delimiter=",")) == 1


@pytest.mark.parametrize(
    "path", [None, 3, 1.5, True, b"x", "", "a\0b", ["x"], np.int64(3), ..., " ", "\ud800"], ids=repr
)
def test_what_is_no_path_is_refused(path):
    with pytest.raises(DataError, match="^here: "):
        local(path, "here", DataError)


@pytest.mark.parametrize(
    "path", ["a:b", "C:/models", "c:\\models", "x", "./s3:x", "/a/s3://b", "a b", "s3", ".", "-", "é/ö", "a//b"]
)
def test_what_only_looks_like_a_url_is_a_path(path):
    assert local(path, "here") == Path(path)
    assert local(PureWindowsPath("C:/models"), "here") == Path("C:\\models")


def test_a_tilde_is_the_home_folder(home):
    assert local("~", "here") == home
    assert local("~/a", "here") == local(Path("~/a"), "here") == home / "a"
    assert local("a/~", "here") == Path("a/~")
    assert local("./~x", "here") == Path("./~x")
    with pytest.raises(ConfigError, match=re.escape("'~nobody-of-this-name/x' names no home folder here")):
        local("~nobody-of-this-name/x", "here")


TABLE = {"user": ["a", "b", "a"], "item": ["x", "y", "y"]}
INDEX = CandidateIndex(["a", "b"], np.eye(2, dtype=np.float32))

CALLS = {
    "save": lambda path: fitted(ids_only()).save(path),
    "checkpoint": lambda path: ids_only().fit(interactions(), checkpoint=path, progress=False),
    "load": lambda path: recs.load(path, runtime="numpy"),
    "resume": recs.TwoTower.resume,
    "info": bundle.info,
    "verify": recs.verify,
    "describe": lambda path: bundle.describe(path, licence="CC0"),
    "from_table": lambda path: recs.Interactions.from_table(path, query="user", candidate="item"),
    "side table": lambda path: recs.Interactions.from_table(TABLE, query="user", candidate="item", queries=path),
    "movielens": lambda path: datasets.load("movielens-100k", path=path),
    "run.json": Experiment.read,
    "execute": lambda path: execute(Experiment(DataSpec("report")), out=path),
    "source": lambda path: execute(Experiment(DataSpec(str(path), query="user", candidate="item"))),
    "index save": INDEX.save,
    "index load": CandidateIndex.load,
    "queries": lambda path: recommend_file(fitted(ids_only()), Job(path, Path("o.parquet"), bundle="")),
    "answers": lambda path: recommend_file(fitted(ids_only()), Job(Path("q.parquet"), path, bundle="")),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("path", ["s3://bucket/x.csv", Path("gs://bucket/x.parquet")], ids=str)
def test_every_call_that_takes_a_path_refuses_a_url(home, call, path):
    with pytest.raises(RecsError, match="is a URL, not a path on this machine"):
        CALLS[call](path)
    assert list(home.parent.glob("*/*")) == []


COMMANDS = [
    ("train", "report", "--epochs", "1", "--out", "URL"),
    ("train", "--config", "URL"),
    ("train", "URL", "--query", "user", "--candidate", "item", "--out", "x"),
    ("train", "--resume", "--out", "URL"),
    ("evaluate", "URL"),
    ("recommend", "URL", "--query", "1"),
    ("recommend", "b", "--queries", "URL", "--out", "o.parquet"),
    ("recommend", "b", "--queries", "q.parquet", "--out", "URL"),
    ("bundle", "info", "URL"),
    ("bundle", "verify", "URL"),
    ("compare", "--out", "URL"),
    ("compare", "--spec", "URL"),
    ("check", "torch", "--expected-failures", "URL"),
    ("check", "torch", "--json", "URL"),
    ("new-plugin", "mine", "--into", "URL"),
    ("data", "check", "URL", "--query", "user", "--candidate", "item"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_that_takes_a_path_refuses_a_url(home, command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([word.replace("URL", "s3://bucket/x.csv") for word in command])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert "'s3://bucket/x.csv' is a URL, not a path on this machine" in err
    assert err.count("\n") == 1
    assert list(home.parent.glob("*/*")) == []


def test_paths_in_a_home_folder(home):
    model = fitted(ids_only())
    assert model.save("~/models/b") == home / "models" / "b"
    assert recs.load("~/models/b", runtime="numpy").recommend([100], 1).ids.shape == (1, 1)
    ids_only().fit(interactions(), checkpoint="~/run", progress=False)
    assert bundle.info("~/run").path == home / "run"
    INDEX.save("~/index")
    assert len(CandidateIndex.load("~/index")) == 2
    (home / "t.csv").write_text("user,item\na,x\nb,y\n")
    assert len(recs.Interactions.from_table("~/t.csv", query="user", candidate="item")) == 2
    assert list((home.parent / "here").iterdir()) == []


def test_a_settings_file_in_a_home_folder(home, monkeypatch):
    from recs_core.config import select

    (home / "recs.toml").write_text('backend = "torch"\n')
    monkeypatch.setenv(CONFIG_VARIABLE, "~/recs.toml")
    monkeypatch.delenv("RECS_BACKEND", raising=False)
    assert select(None).name == "torch"
    monkeypatch.setenv(CONFIG_VARIABLE, "s3://bucket/recs.toml")
    with pytest.raises(ConfigError, match=f"^{CONFIG_VARIABLE}: 's3://bucket/recs.toml' is a URL"):
        select(None)


def test_the_files_of_an_experiment_by_absolute_paths_and_what_is_no_file_as_it_is(home):
    here = home.parent / "here"
    files = DataSpec("rows.csv", queries="~/q.csv", candidates=("title", "price"))
    assert absolute(files) == replace(files, source=f"{here}/rows.csv", queries=f"{home}/q.csv")
    named = DataSpec("movielens-100k", path="ml-100k")
    assert absolute(named) == replace(named, path=f"{here}/ml-100k")
    assert absolute(DataSpec("synthetic")) == DataSpec("synthetic")


def test_errors_are_of_the_kind_that_the_call_names():
    with pytest.raises(BundleError):
        CALLS["save"]("s3://b/x")
    with pytest.raises(DataError):
        CALLS["from_table"]("s3://b/x.csv")
