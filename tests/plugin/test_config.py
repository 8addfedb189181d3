"""The order in which a backend is chosen, and the name of whoever chose it."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import recs_core
from recs_core import config, environment
from recs_core.config import Selection, select, use
from recs_core.contract.errors import BackendBroken, BackendNotFound, ConfigError, MissingExtra, UnsupportedFeature
from recs_core.plugin.manager import BACKENDS, _hint
from recs_core.spelling import meant_backend
from tests.plugin.conftest import GOOD_PLUGIN

Install = Callable[..., str]


def install_engines(monkeypatch: pytest.MonkeyPatch, *engines: str) -> None:
    """Make it so that keras is not imported and, of all engines, only these are installed."""
    for module in ("keras", *config.ENGINES):
        monkeypatch.delitem(sys.modules, module, raising=False)
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return (object() if name in engines else None) if name in config.ENGINES else found(name, package)

    monkeypatch.setattr("recs_core.environment.find_spec", find_spec)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Install) -> Path:
    """A working folder with nothing chosen, JAX and torch installed, and a backend `toy` installed."""
    install(GOOD_PLUGIN)
    install_engines(monkeypatch, "torch", "jax")
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    (folder.parent / "pyproject.toml").write_text("[project]\nname = 'theirs'\n")
    monkeypatch.chdir(folder)
    return folder.parent


def speak(project: Path, monkeypatch: pytest.MonkeyPatch, voices: Mapping[str, str]) -> str | None:
    """Let every voice name a backend; returns what an explicit argument says."""
    for voice, name in voices.items():
        if voice == "use":
            use(name)
        elif voice == "pyproject":
            (project / "pyproject.toml").write_text(f"[tool.recs_core]\nbackend = '{name}'\n")
        elif voice == "RECS_CONFIG":
            (project / "recs.toml").write_text(f"backend = '{name}'\n")
            monkeypatch.setenv(voice, str(project / "recs.toml"))
        elif voice != "argument":
            monkeypatch.setenv(voice, name)
    return voices.get("argument")


ALL = {
    "argument": "a",
    "use": "toy",
    "RECS_BACKEND": "c",
    "RECS_CONFIG": "d",
    "pyproject": "e",
    "KERAS_BACKEND": "torch",
}
WINNERS = {
    "argument": ("a", None, "backend="),
    "use": ("toy", None, "use()"),
    "RECS_BACKEND": ("c", None, "RECS_BACKEND"),
    "RECS_CONFIG": ("d", None, "{project}/recs.toml (RECS_CONFIG)"),
    "pyproject": ("e", None, "[tool.recs_core] in {project}/pyproject.toml"),
    "KERAS_BACKEND": ("keras", "torch", "KERAS_BACKEND"),
}


@pytest.mark.parametrize("rank", range(len(ALL)))
def test_first_voice_wins(project: Path, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    voices = dict(list(ALL.items())[rank:])
    explicit = speak(project, monkeypatch, voices)
    name, engine, source = WINNERS[next(iter(voices))]
    assert select(explicit) == Selection(name, engine, source.format(project=project))


@pytest.mark.parametrize(
    ("installed", "engine"),
    [(("jax", "torch", "tensorflow"), "jax"), (("tensorflow", "torch"), "torch"), (("tensorflow",), "tensorflow")],
)
def test_nobody_speaks(project: Path, monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], engine: str) -> None:
    install_engines(monkeypatch, *installed)
    chosen = select()
    assert (chosen.name, chosen.engine) == ("keras", engine)
    assert chosen.source.startswith("the default")


def test_nobody_speaks_and_nothing_is_installed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_engines(monkeypatch)
    with pytest.raises(BackendNotFound, match="jax, torch, tensorflow.*pip install keras jax"):
        select()
    with pytest.raises(BackendNotFound, match="backend= names keras without an engine, and none of jax, .* keras jax"):
        select("keras")


def test_nobody_speaks_and_keras_is_not_installed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside a plugin that brings its framework and no Keras."""
    found = environment.find_spec
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == "keras" else found(name))
    said = r"the default, keras\[jax\], needs keras, not installed: `pip install keras`, or choose .* RECS_BACKEND"
    with pytest.raises(MissingExtra, match=said):
        select()
    assert select("toy") == Selection("toy", None, "backend=")
    with pytest.raises(MissingExtra, match=r"asked for by backend=\) needs keras, not installed: `pip install keras`"):
        config.backend("keras[jax]")
    with pytest.raises(MissingExtra, match=r"needs keras, tensorflow, not installed: `pip install keras tensorflow`"):
        config.backend("keras[tensorflow]")


def test_keras_already_imported_says_its_engine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = types.ModuleType("keras")
    keras.config = types.SimpleNamespace(backend=lambda: "tensorflow")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # set after keras was imported: too late to matter
    assert select() == Selection("keras", "tensorflow", "keras, already imported with tensorflow")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("keras[torch]", ("keras", "torch")), ("toy[one]", ("toy", "one")), ("a-b.c_d", ("a-b.c_d", None))],
)
def test_names(project: Path, text: str, expected: tuple[str, str | None]) -> None:
    chosen = select(text)
    assert (chosen.name, chosen.engine) == expected
    assert str(chosen) == text


def test_keras_without_an_engine_finds_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert select("keras") == Selection("keras", "jax", "backend=")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert select("keras") == Selection("keras", "torch", "backend=")


@pytest.mark.parametrize("text", ["keras[", "keras[]", "a b", "keras[jax", "[jax]", "a/b"])
def test_names_that_are_none(project: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RECS_BACKEND", text)
    with pytest.raises(ConfigError, match=r"RECS_BACKEND names the backend .*keras\[jax\]"):
        select()


@pytest.mark.parametrize("engine", ["numpy", "openvino"])
@pytest.mark.parametrize(("variable", "form"), [("RECS_BACKEND", "keras[{}]"), ("KERAS_BACKEND", "{}")])
def test_engines_without_gradients_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, engine: str, variable: str, form: str
) -> None:
    monkeypatch.setenv(variable, form.format(engine))
    with pytest.raises(UnsupportedFeature, match=f"{engine}.*asked for by {variable}.*no gradients"):
        select()


def test_an_unknown_engine(project: Path) -> None:
    with pytest.raises(BackendNotFound, match="keras has no engine 'mxnet'"):
        select("keras[mxnet]")


@pytest.mark.parametrize(
    ("text", "write"),
    [
        ("jax", "keras[jax]"),
        ("JAX", "keras[jax]"),
        ("keras-jax", "keras[jax]"),
        ("keras(jax)", "keras[jax]"),
        ("keras jax", "keras[jax]"),
        ("Keras[torch]", "keras[torch]"),
        ("keras/tf", "keras[tensorflow]"),
        ("tf.keras", "keras[tensorflow]"),
        ("KERAS", "keras"),
        ("kears", "keras"),
        ("pytorch", "torch"),
        ("Torch", "torch"),
        ("torch-cuda", "torch"),
        ("recs-core-torch", "torch"),
        ("tf", "tensorflow"),
        ("TensorFlow", "tensorflow"),
        ("tfrs", "tensorflow"),
        ("tensorflow_recommenders", "tensorflow"),
        ("TOY", "toy"),
        ("toi", "toy"),
    ],
)
@pytest.mark.parametrize("source", ["use()", "RECS_BACKEND", "backend="])
def test_a_name_that_is_meant_to_be_another_is_refused_with_the_right_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str, write: str, source: str
) -> None:
    with pytest.raises((BackendNotFound, ConfigError)) as caught:
        if source == "RECS_BACKEND":
            monkeypatch.setenv(source, text)
        if source == "use()":
            use(text)
        recs_core.backend(text if source == "backend=" else None)
    assert re.search(rf"(write|did you mean) {re.escape(repr(write))}", str(caught.value))
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("engine", "write"), [("pytorch", "torch"), ("TF", "tensorflow"), ("Jax", "jax")])
@pytest.mark.parametrize(("variable", "form"), [("RECS_BACKEND", "keras[{}]"), ("KERAS_BACKEND", "{}")])
def test_so_is_an_engine(
    project: Path, monkeypatch: pytest.MonkeyPatch, engine: str, write: str, variable: str, form: str
) -> None:
    monkeypatch.setenv(variable, form.format(engine))
    with pytest.raises(BackendNotFound, match=rf"{variable}.*write '{write}', as in 'keras\[{write}\]'"):
        select()


def test_a_framework_whose_plugin_is_not_installed_is_had_through_keras() -> None:
    assert "write 'keras[torch]', or pip install" in _hint(BACKENDS, "torch", ["keras"])
    assert "write 'torch', and pip install" in _hint(BACKENDS, "pytorch", ["keras"])


@pytest.mark.parametrize("name", ["mxnet", "numpy", "mine", "torch-or-tensorflow"])
def test_a_name_that_could_be_anything_is_not_guessed(name: str) -> None:
    assert meant_backend(name) is None


@pytest.mark.parametrize("wrong", [3, {"torch"}, pytest])
def test_what_is_neither_a_name_nor_a_backend(project: Path, wrong: object) -> None:
    with pytest.raises(ConfigError, match="backend"):
        recs_core.backend(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"use\(\) names the backend"):
        use(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        "[tool.recs-core]",
        "[tool.RecsCore]",
        "[tool.recs.core]\nbackend = 'toy'",
        "[tool.recs]\nbackend = 'toy'",
        "[tool.recs_cor]\nback-end = 'toy'",
        "[recs_core]",
        "[recs-core]\nbackend = 'toy'",
        "[tool.recs_core]\nbackend = 'toy'\n[tool.recs-core]\nbackend = 'toy'",
    ],
)
def test_a_table_that_is_meant_to_be_ours(project: Path, content: str) -> None:
    (project / "pyproject.toml").write_text(content)
    with pytest.raises(ConfigError, match=r"pyproject\.toml is not read; write \[tool\.recs_core\]$"):
        select()


@pytest.mark.parametrize(
    "content",
    [
        "[tool.recs]\nurl = 'theirs'",
        "[tool.ruff]\nbackend = 'theirs'",
        "[tool.score]\nbackend = 'theirs'",
        "[recs]\nbuild = 'theirs'",
    ],
)
def test_a_table_of_someone_else_is_left_alone(project: Path, content: str) -> None:
    (project / "pyproject.toml").write_text(content)
    assert select().engine == "jax"


@pytest.mark.parametrize("content", ["tool = 3", "[[tool]]\nrecs_core = 3"])
def test_tool_that_is_no_table(project: Path, content: str) -> None:
    (project / "pyproject.toml").write_text(content)
    with pytest.raises(ConfigError, match=r"tool in .* must be a table"):
        select()


def test_a_table_in_a_file_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "recs.toml").write_text("[tool.recs_core]\nbackend = 'toy'\n")
    monkeypatch.setenv("RECS_CONFIG", str(project / "recs.toml"))
    with pytest.raises(ConfigError, match="'tool'; write it at the top level, as in backend = "):
        select()


@pytest.mark.parametrize("name", ["RECS_CORE_BACKEND", "RECSCORE_BACKEND", "recs_backend"])
def test_a_variable_that_is_meant_to_be_ours(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "toy")
    with pytest.raises(ConfigError, match=f"{name} is not read; write RECS_BACKEND, or unset it"):
        select()
    monkeypatch.delenv(name)
    monkeypatch.setenv("RECS_BACKEND_URL", "theirs")
    assert select().engine == "jax"


def test_an_empty_variable_says_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RECS_BACKEND", "RECS_CONFIG", "KERAS_BACKEND"):
        monkeypatch.setenv(variable, "")
    assert select().engine == "jax"


def test_the_nearest_pyproject_only(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.recs_core]\nbackend = 'toy'\n")
    (project / "deep" / "pyproject.toml").write_text("[project]\nname = 'nearer, and silent'\n")
    assert select().name == "keras"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("backend = [", "is not TOML"),
        ("backend = 3", "backend = 3; write a string"),
        ("bakcend = 'toy'", "unknown setting 'bakcend'; known: backend"),
    ],
)
def test_a_file_that_cannot_be_meant(project: Path, monkeypatch: pytest.MonkeyPatch, content: str, match: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.recs_core]\n{content}\n")
    with pytest.raises(ConfigError, match=match) as caught:
        select()
    assert str(project / "pyproject.toml") in str(caught.value)
    (project / "recs.toml").write_text(content)
    monkeypatch.setenv("RECS_CONFIG", str(project / "recs.toml"))
    with pytest.raises(ConfigError, match=match) as caught:
        select()
    assert "RECS_CONFIG" in str(caught.value)


def test_a_table_that_is_none(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool]\nrecs_core = 'toy'\n")
    with pytest.raises(ConfigError, match="must be a table"):
        select()


def test_a_named_file_that_is_not_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECS_CONFIG", str(project / "none.toml"))
    with pytest.raises(ConfigError, match=r"RECS_CONFIG names, .*none\.toml, cannot be read: No such file"):
        select()


def test_use_checks_at_once_and_keeps_what_was(project: Path, install: Install) -> None:
    install("import nothing_of_this_name", name="bad", distribution="recs-bad")
    use("toy[one]")
    with pytest.raises(BackendNotFound, match=r"asked for by use\(\)"):
        use("none")
    with pytest.raises(BackendBroken, match=r"asked for by use\(\)"):
        use("bad")
    assert select() == Selection("toy", "one", "use()")
    use(None)
    assert select().name == "keras"


def test_backend_is_built_once_unless_it_has_options(project: Path) -> None:
    use("toy[one]")
    first = recs_core.backend()
    assert recs_core.backend("toy[one]") is first
    assert recs_core.backend(first) is first
    assert recs_core.backend("toy") is not first
    assert recs_core.backend("toy[one]", speed=2) is not first


def test_selecting_writes_nothing(project: Path) -> None:
    before = sorted(project.parent.rglob("*"))
    select()
    assert sorted(project.parent.rglob("*")) == before
