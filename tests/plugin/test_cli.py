"""`recs`: quick help, one line for an error of ours, listings for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

import recs_core
from recs_core.cli.doctor import probe
from recs_core.cli.new_plugin import scaffold
from recs_core.cli.probe import try_step
from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import SpecError
from recs_core.plugin import BACKEND_CAPABILITIES
from recs_core.plugin.manager import BACKENDS
from tests.plugin.conftest import GOOD_PLUGIN

Install = Callable[..., str]
FRAMEWORKS = {"jax", "keras", "tensorflow", "torch"}


@pytest.fixture(autouse=True)
def seen_by_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes see the temporary distributions, and no pyproject.toml of this project."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def recs(*arguments: str, code: int = 0, absent: Iterable[str] = FRAMEWORKS) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from recs_core.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        f"finally: assert not {set(absent)} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "300"},
    )
    assert done.returncode == code, done.stderr
    return done


def test_help_and_version_are_light() -> None:
    heavy = FRAMEWORKS | {"numpy", "pyarrow", "rich"}
    help_text = recs("--help", absent=heavy).stdout
    assert "backends" in help_text and "doctor" in help_text
    assert recs("--version", absent=heavy).stdout == f"recs-core {recs_core.__version__}\n"


def test_backends_for_people(install: Install) -> None:
    install(
        GOOD_PLUGIN.replace("}", "} | {'logq': No('toys do not correct')}").replace("hookimpl\n", "No, hookimpl\n", 1)
    )
    install("import nothing_of_this_name", name="other", distribution="recs-other")
    text = recs("--backend", "toy[one]", "backends").stdout
    (toy,) = [line for line in text.splitlines() if " toy " in line]
    total = len(BACKEND_CAPABILITIES)
    assert "→" in toy and "recs-toy 1.5" in toy and f"{total - 1} of {total}; not logq (toys do not correct)" in toy
    (other,) = [line for line in text.splitlines() if " other " in line]
    assert "recs-other 1.5" in other and "nothing_of_this_name" in other
    assert "selected: toy[one], by recs --backend" in text


def test_backends_for_programs(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(GOOD_PLUGIN)
    monkeypatch.setenv("RECS_BACKEND", "toy[one]")
    data = json.loads(recs("backends", "--json").stdout)
    assert data["selected"] == {"name": "toy", "engine": "one", "source": "RECS_BACKEND"}
    (toy,) = [row for row in data["backends"] if row["name"] == "toy"]
    assert (toy["distribution"], toy["version"], toy["engines"], toy["problem"]) == ("recs-toy", "1.5", ["one"], None)
    assert toy["capabilities"] == dict.fromkeys(BACKEND_CAPABILITIES, True)


def test_a_wrong_setting_does_not_hide_the_list(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(GOOD_PLUGIN)
    monkeypatch.setenv("RECS_BACKEND", "keras[numpy]")
    text = recs("backends").stdout
    assert " toy " in text
    assert "selected: none; keras[numpy] (asked for by RECS_BACKEND) cannot train" in text


def test_an_error_of_ours_is_one_line_and_code_2() -> None:
    done = recs("--backend", "tourch", "backends", code=2)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("recs: no backend 'tourch' (asked for by recs --backend)")


def test_a_wrong_option_is_code_2() -> None:
    assert "--jsno" in recs("backends", "--jsno", code=2).stderr


DYING = GOOD_PLUGIN.replace("built += 1", "import os; os._exit(3)")


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        (GOOD_PLUGIN, "model"),  # its model() takes no arguments
        (DYING, "its process ended with code 3"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
    ],
)
def test_doctor_finds_the_sick(install: Install, source: str, finding: str) -> None:
    install(source)
    found = probe("toy")
    assert (found["name"], found["health"]) == ("toy", "broken")
    assert finding in found["finding"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["jax", "torch", "tensorflow"])
def test_doctor_finds_the_sound(engine: str) -> None:
    found = probe(f"keras[{engine}]")
    if find_spec(engine) is None:
        assert found["health"] == "absent" and f"pip install {engine}" in found["finding"]
    else:
        assert found["health"] == "ok", found["finding"]
        assert f"{engine} " in found["versions"]


class Stuck:
    """A backend that reports the right loss, or a wrong one, and never learns."""

    def __init__(self, loss_factor: float) -> None:
        self.loss_factor = loss_factor

    def model(self, query: object, candidate: object, retrieval: object, weights: dict) -> Stuck:
        self.weights, self.query = weights, self
        return self

    def trainer(self, model: object, optimizer: object) -> Stuck:
        return self

    def step(self, batch: Batch, learning_rate: float) -> float:
        import numpy as np

        scores = self.weights["table/user"].astype(float) @ self.weights["table/item"].astype(float).T
        return self.loss_factor * float(np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)))

    def embed(self, features: Features) -> object:
        return self.weights["table/user"]


def test_doctor_tells_a_wrong_loss_from_a_step_that_moves_nothing() -> None:
    assert "the loss of a step is" in str(try_step(Stuck(1.01)))  # type: ignore[arg-type]
    assert "away from the formula's" in str(try_step(Stuck(1.0)))  # type: ignore[arg-type]


def test_a_new_backend_may_be_named_as_an_index_is_but_its_distribution_may_not(
    install: Install, tmp_path: Path
) -> None:
    install("", name="quick", distribution="recs-core-quick", group="recs_core.indexes")
    assert scaffold("exact", tmp_path, BACKENDS).is_dir()
    with pytest.raises(SpecError, match="recs-core-quick is the distribution of the index 'quick' already"):
        scaffold("quick", tmp_path, BACKENDS)
