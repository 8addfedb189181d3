"""What people type first and no function has: one line says where it lives, in Python and on the shell."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest

import recs_core as recs
from recs_core.cli.main import main
from recs_core.contract.errors import SpecError
from tests.shop import declared, shop

DEVICE = "recs.TwoTower(…, device='cuda')"
PRECISION = "fit(train, precision='bf16')"
WORKERS = "recs_core_torch.loader(…, num_workers=4)"
RATE = "optimizer=recs.Adam("

WHO: dict[str, Callable[..., object]] = {
    "TwoTower": declared,
    "fit": lambda **given: declared().fit(shop(), **given),
    "recipe": lambda **given: recs.recipe("history", shop(), **given),
    "load": lambda **given: recs.load("nowhere", **given),
    "use": lambda **given: recs.use("torch", **given),
}


def refused(who: str, **given: object) -> str:
    with pytest.raises(SpecError, match=f"^{who}: there is no argument") as caught:
        WHO[who](**given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gpu": 0}, DEVICE),
        ({"amp": True}, PRECISION),
        ({"num_workers": 4}, WORKERS),
        ({"learning_rate": 0.1}, RATE),
        ({"lr": 0.1}, RATE),
        ({"temperature": 0.1}, "retrieval=recs.RetrievalSpec(temperature=…)"),
    ],
)
def test_an_argument_that_lives_elsewhere(who: str, given: dict[str, object], said: str) -> None:
    assert said in refused(who, **given)


@pytest.mark.parametrize("who", ["TwoTower", "recipe", "load"])
def test_settings_of_training_given_to_a_model(who: str) -> None:
    assert "fit(train, epochs=…), or training=recs.TrainingSpec(epochs=…)" in refused(who, epochs=3)


def test_what_a_model_is_told_given_to_fit() -> None:
    assert "recs.TwoTower(…, dtype=…)" in refused("fit", dtype="float64")
    assert DEVICE in refused("fit", device="cuda")


@pytest.mark.parametrize("spec", [recs.RetrievalSpec, recs.Adam, recs.TrainingSpec])
def test_every_field_of_a_spec_given_beside_it_is_led_home(spec: type) -> None:
    for field in dataclasses.fields(spec):
        assert f"recs.{spec.__name__}({field.name}=…)" in refused("load", **{field.name: 1})


def test_a_misspelling_is_told_the_name_that_comes_closest() -> None:
    assert refused("TwoTower", candidat=1).endswith("there is candidate")
    assert "early_stopping, epochs" in refused("fit", nothing_like_it=1)


def test_what_is_known_still_arrives_and_python_still_counts() -> None:
    assert declared(seed=7).seed == 7
    with pytest.raises(TypeError, match="candidate"):
        recs.TwoTower(recs.TowerSpec([recs.Categorical("user")]))  # type: ignore[call-arg]


def test_specs_given_to_a_recipe_win() -> None:
    chosen = recs.recipe("history", shop(), retrieval=recs.RetrievalSpec(temperature=0.3), seed=7)
    plain = recs.recipe("history", shop())
    assert (chosen.retrieval, chosen.seed) == (recs.RetrievalSpec(temperature=0.3), 7)
    assert (chosen.query, chosen.optimizer, chosen.training) == (plain.query, plain.optimizer, plain.training)


@pytest.mark.parametrize(
    ("arguments", "asked", "said"),
    [
        (["compare", "--device", "cuda"], "recs compare", DEVICE),
        (["--gpu", "0", "train", "report"], "recs", DEVICE),
        (["compare", "--mixed-precision"], "recs compare", PRECISION),
        (["train", "report", "--num-workers", "4"], "recs train", WORKERS),
        (["train", "report", "--lr", "0.1"], "recs train", RATE),
    ],
)
def test_an_option_that_lives_in_python(
    arguments: list[str], asked: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    message = capsys.readouterr().err
    assert re.match(rf"recs: {asked}: there is no option --\S+; in Python, ", message)
    assert said in message and message.count("\n") == 1


@pytest.mark.parametrize("command", ["recommend", "evaluate"])
@pytest.mark.parametrize("option", ["--k", "--top-k", "--topk"])
def test_k_is_short_on_the_shell(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([command, "bundle", option, "3"])
    assert capsys.readouterr().err == f"recs: recs {command}: there is no option {option}; write -k\n"


@pytest.mark.parametrize(
    "arguments", [["train", "report", "--backend", "torch"], ["bundle", "info", "b", "--backend", "x"]]
)
def test_an_option_that_goes_before_the_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    said = capsys.readouterr().err
    assert f"there is no option --backend; it goes before the command: recs --backend … {arguments[0]} " in said
    assert said.count("\n") == 1
