"""`recs new-plugin`: what it writes, and what it refuses to write over. docs/write-a-….md go on from there."""

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
from recs_core.plugin.manager import BACKENDS, INDEXES

KINDS = {"backend": BACKENDS, "index": INDEXES}
CLASSES = {"backend": {"Tower", "RetrievalTask", "Model", "Trainer", "Backend"}, "index": {"Index"}}
FACTORIES = {"backend": "recs_core_mine.backend:create", "index": "recs_core_mine.index:Index"}


@pytest.mark.parametrize("noun", KINDS)
def test_a_distribution_whose_names_fit_each_other(noun: str, tmp_path: Path) -> None:
    folder = new_plugin.scaffold("my-own2", tmp_path, KINDS[noun])
    assert folder == tmp_path / "recs-core-my-own2"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "recs-core-my-own2"
    assert project["entry-points"] == {KINDS[noun].group: {"my-own2": "recs_core_my_own2.plugin"}}
    major, minor = recs_core.__version__.split(".")[:2]
    assert project["dependencies"][0] == f"recs-core>={recs_core.__version__},<{major}.{int(minor) + 1}"
    source = folder / "src" / "recs_core_my_own2"
    assert (source / "__init__.py").is_file()
    body = ast.parse((source / f"{noun}.py").read_text()).body
    assert {node.name for node in body if isinstance(node, ast.ClassDef)} == CLASSES[noun]
    left_over = [file for file in folder.rglob("*") if file.is_file() and re.search(r"\$\{?[a-z]", file.read_text())]
    assert not left_over


@pytest.mark.parametrize("noun", KINDS)
def test_the_manifest_claims_nothing_and_declares_everything(noun: str, tmp_path: Path) -> None:
    plugin = new_plugin.scaffold("mine", tmp_path, KINDS[noun]) / "src" / "recs_core_mine" / "plugin.py"
    found: dict[str, object] = {}
    exec(compile(plugin.read_text(), str(plugin), "exec"), found)
    (info,) = found[KINDS[noun].hook]()  # type: ignore[operator]
    assert list(info.capabilities) == list(KINDS[noun].capabilities)
    assert not any(info.capabilities.values())
    assert info.factory == FACTORIES[noun]


@pytest.mark.parametrize("name", ["", "Mine", "my_own", "1st", "-mine", "mine-", "my--own", "a/b", "..", "ä", "mine\n"])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot name a backend"):
        new_plugin.scaffold(name, tmp_path, BACKENDS)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused_with_who_has_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"backend 'keras' is recs-core's"):
        new_plugin.scaffold("keras", tmp_path, BACKENDS)
    with pytest.raises(SpecError, match=r"index 'exact' is recs-core's"):
        new_plugin.scaffold("exact", tmp_path, INDEXES)
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
        new_plugin.scaffold("mine", tmp_path, BACKENDS)
    assert list(tmp_path.iterdir()) == [there]


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(new_plugin.FILES, "README.md/too", "shared/README.md")  # README.md is a file by then
    with pytest.raises(ConfigError, match="cannot be written"):
        new_plugin.scaffold("mine", tmp_path, BACKENDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "next_"), [((), "recs check mine\n"), (("--index",), "recs check mine --index\n")])
def test_the_command_says_what_to_type_next(
    option: tuple[str, ...], next_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["new-plugin", "mine", *option, "--into", str(tmp_path)])
    assert not done.value.code
    assert capsys.readouterr().out.endswith(next_)
    with pytest.raises(SystemExit) as refused:
        main(["new-plugin", "mine", *option, "--into", str(tmp_path / "nowhere")])
    assert refused.value.code == USER_ERROR
    assert "there is no such folder" in capsys.readouterr().err
