"""What `fit` and `recommend` refuse before Ray is asked for anything: one line each."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import recs_core_ray
from recs_core_ray import need
from recs_core_ray.worker import check_shared

from recs_core.contract.errors import BundleError, ConfigError, DataError, MissingExtra, RecsError, UnsupportedFeature
from recs_core.experiment import DataSpec, Experiment

RUN = Experiment(DataSpec("synthetic"), backend="torch")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workers": 0}, "fit(workers=…) is a number from 1, or the least and the most, as in (2, 8); got 0"),
        ({"workers": (0, 2)}, "got (0, 2)"),
        ({"workers": (3, 2)}, "got (3, 2)"),
        ({"workers": (1, 2, 3)}, "got (1, 2, 3)"),
        ({"workers": True}, "got True"),
        ({"workers": "2:8"}, "got '2:8'"),
        ({"cpus": 0}, "fit(cpus=…) is a number of cores from 1, got 0"),
        ({"max_failures": -2}, "fit(max_failures=…) is a number from 0, or -1 for any number, got -2"),
        ({"timeout": 0}, "fit(timeout=…) is a finite number of seconds above 0, got 0"),
        ({"timeout": float("inf")}, "fit(timeout=…) is a finite number of seconds above 0, got inf"),
        ({"out": "s3://bucket/run"}, "fit(out=…): 's3://bucket/run' is a URL, not a path on this machine"),
        ({"config": None}, "fit: name the run.json to train, or resume=True to finish the run in out"),
        ({"config": "none.json"}, "none.json: no such file; name what `recs train` wrote"),
        ({"resume": True}, "takes everything from "),
        ({"config": None, "resume": True}, "run.json: no such file"),
    ],
)
def test_fit_refuses(wrong: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        recs_core_ray.fit(**{"config": RUN, "out": tmp_path / "run", **wrong})
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_fit_writes_into_no_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exists; choose another out, or resume=True to finish the run in it$"):
        recs_core_ray.fit(RUN, out=tmp_path)


def test_fit_refuses_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="run: cannot be written, Not a directory$"):
        recs_core_ray.fit(RUN, out=tmp_path / "file" / "run")


def test_fit_asks_no_backend_that_trains_on_one_worker_alone(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature, match="'keras' trains on one worker alone"):
        recs_core_ray.fit(Experiment(DataSpec("synthetic"), backend="keras[tensorflow]"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_worker_elsewhere_says_that_it_does_not_see_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mark").mkdir()
    check_shared(tmp_path, "mark", 3)
    with pytest.raises(ConfigError, match=r"^worker 3, on \S+, does not see the folder .*; name one that all machines"):
        check_shared(tmp_path, "another", 3)


@pytest.mark.parametrize("call", ["fit", "recommend"])
def test_ray_that_is_absent_or_too_old(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = {"fit": ((RUN,), {"out": tmp_path / "run"}), "recommend": (("bundle", "q"), {"to": tmp_path / "run"})}
    arguments, named = asks[call]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.54.1")
    with pytest.raises(MissingExtra) as caught:
        getattr(recs_core_ray, call)(*arguments, **named)
    assert str(caught.value) == (
        f"recs_core_ray.{call} needs Ray 2.55 or newer, and 2.54.1 is installed; pip install 'ray[data,train]>=2.55'"
    )

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(MissingExtra, match="needs Ray, which is not installed; pip install"):
        getattr(recs_core_ray, call)(*arguments, **named)


def test_the_least_ray_is_the_one_that_the_distribution_asks_for() -> None:
    asked = importlib.metadata.requires("recs-core-ray") or []
    assert f"ray[data,train]>={need.LEAST[0]}.{need.LEAST[1]}" in asked


def test_the_package_is_imported_without_ray_or_a_framework() -> None:
    code = "import sys, recs_core_ray; print(sorted({'ray', 'torch', 'tensorflow', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"bundle": "none"}, BundleError, "none: "),
        ({"bundle": "s3://bucket/bundle"}, ConfigError, "recommend(bundle): 's3://bucket/bundle' is a URL"),
        ({"queries": "none.parquet"}, DataError, "none.parquet: no such file"),
        ({"queries": "none/*.parquet"}, DataError, "a pattern that names no Parquet file"),
        ({"queries": "."}, DataError, "a folder that names no Parquet file"),
        ({"column": "customer"}, DataError, "no column 'customer' with query ids; it has user, note"),
        ({"exclude": "all"}, ConfigError, "recommend(exclude=…) is 'seen' or None, got 'all'"),
        ({"unknown": "skip"}, ConfigError, "recommend(unknown=…) is 'oov', 'popular' or 'error', got 'skip'"),
        ({"k": 0}, DataError, "k must be"),
        ({"where": "prize < 3"}, DataError, "there is no column 'prize'"),
        ({"to": "bundle"}, ConfigError, "bundle exists; choose another folder for recommend(to=…)"),
        ({"to": "s3://bucket/out"}, ConfigError, "recommend(to=…): 's3://bucket/out' is a URL"),
    ],
)
def test_recommend_refuses(
    wrong: dict[str, Any], kind: type[RecsError], said: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(asked["bundle"]).parent
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(kind) as caught:
        recs_core_ray.recommend(**{**asked, **wrong})
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before
