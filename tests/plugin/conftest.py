"""Distributions made of temporary dist-info folders, as an installer would leave them on sys.path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from recs_core import config

Install = Callable[..., str]

GOOD_PLUGIN = """
from recs_core.plugin import BACKEND_CAPABILITIES, BackendInfo, hookimpl

CAPABILITIES = {name: True for name in BACKEND_CAPABILITIES}
heard = []

@hookimpl
def recs_backends():
    return [BackendInfo(name="toy", factory="MODULE:Toy", summary="A toy", engines=("one",), capabilities=CAPABILITIES)]

@hookimpl
def recs_backend_selected(info, source):
    heard.append((info.name, source, built))

built = 0

class Toy:
    def __init__(self, engine=None, **options):
        global built
        built += 1
        self.info, self.engine, self.options = recs_backends()[0], engine, options

    def model(self): ...
    def task(self): ...
    def adopt(self): ...
    def trainer(self): ...
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(source, name=…, distribution=…, group=…)` installs one; MODULE is its module's name."""
    modules: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(
        source: str | None,
        name: str = "toy",
        distribution: str = "recs-toy",
        group: str = "recs_core.backends",
        attribute: str = "",
    ) -> str:
        module = f"{distribution.replace('-', '_')}_plugin"
        modules.append(module)
        if source is not None:
            (tmp_path / f"{module}.py").write_text(dedent(source).replace("MODULE", module))
        info = tmp_path / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}{attribute}\n")
        importlib.invalidate_caches()
        return module

    yield make
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No choice leaks in from the shell, from an earlier test, or out to a later one."""
    for variable in ("RECS_BACKEND", "RECS_CONFIG", "KERAS_BACKEND"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(config, "_used", None)
    monkeypatch.setattr(config, "_built", {})
