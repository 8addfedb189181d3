"""`recs new-plugin`: what it writes, and what it refuses to write over. docs/write-a-backend.md goes on from there."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import recs_core
from recs_core.cli import new_plugin
from recs_core.cli.main import USER_ERROR, main
from recs_core.contract.errors import ConfigError, SpecError
from recs_core.plugin import BACKEND_CAPABILITIES


def test_a_distribution_whose_names_fit_each_other(tmp_path: Path) -> None:
    folder = new_plugin.scaffold("my-own2", tmp_path)
    assert folder == tmp_path / "recs-core-my-own2"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "recs-core-my-own2"
    assert project["entry-points"]["recs_core.backends"] == {"my-own2": "recs_core_my_own2.plugin"}
    major, minor = recs_core.__version__.split(".")[:2]
    assert project["dependencies"][0] == f"recs-core>={recs_core.__version__},<{major}.{int(minor) + 1}"
    source = folder / "src" / "recs_core_my_own2"
    assert (source / "__init__.py").is_file()
    classes = {
        node.name for node in ast.parse((source / "backend.py").read_text()).body if isinstance(node, ast.ClassDef)
    }
    assert classes == {"Tower", "RetrievalTask", "Model", "Trainer", "Backend"}
    left_over = [file for file in folder.rglob("*") if file.is_file() and re.search(r"\$\{?[a-z]", file.read_text())]
    assert not left_over


def test_the_manifest_claims_nothing_and_declares_everything(tmp_path: Path) -> None:
    plugin = new_plugin.scaffold("mine", tmp_path) / "src" / "recs_core_mine" / "plugin.py"
    found: dict[str, object] = {}
    exec(compile(plugin.read_text(), str(plugin), "exec"), found)
    (info,) = found["recs_backends"]()  # type: ignore[operator]
    assert list(info.capabilities) == list(BACKEND_CAPABILITIES)
    assert not any(info.capabilities.values())
    assert info.factory == "recs_core_mine.backend:create"


@pytest.mark.parametrize("name", ["", "Mine", "my_own", "1st", "-mine", "mine-", "my--own", "a/b", "..", "ä", "mine\n"])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot name a backend"):
        new_plugin.scaffold(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused_with_who_has_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"'keras' is recs-core's"):
        new_plugin.scaffold("keras", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_nothing_is_written_over(kind: str, tmp_path: Path) -> None:
    there = tmp_path / "recs-core-mine"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is there already"):
        new_plugin.scaffold("mine", tmp_path)
    assert list(tmp_path.iterdir()) == [there]


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(new_plugin.FILES, "README.md/too", "README.md")  # README.md is a file by then
    with pytest.raises(ConfigError, match="cannot be written"):
        new_plugin.scaffold("mine", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["new-plugin", "mine", "--into", str(tmp_path)])
    assert not done.value.code
    assert "recs check mine" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refused:
        main(["new-plugin", "mine", "--into", str(tmp_path / "nowhere")])
    assert refused.value.code == USER_ERROR
    assert "there is no such folder" in capsys.readouterr().err
