"""Every way a plugin can be wrong has an error of its own, which says who asked, what was found and what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recs_core.contract.errors import (
    BackendBroken,
    BackendConflict,
    BackendNotFound,
    ConfigError,
    DataError,
    MissingExtra,
    RecsError,
    SpecError,
    UnsupportedFeature,
)
from recs_core.contract.manifest import IndexInfo
from recs_core.plugin.manager import backend_info, list_backends, list_indexes, load_backend, load_index
from tests.plugin.conftest import GOOD_PLUGIN

Install = Callable[..., str]


def message(error: type[RecsError], action: Callable[[], object]) -> str:
    """The message of the error that `action` raises: one line, and it says who asked."""
    with pytest.raises(error) as caught:
        action()
    assert type(caught.value) is error
    text = str(caught.value)
    assert "\n" not in text
    assert "(asked for by a test)" in text
    return text


def load(name: str = "toy", engine: str | None = None) -> object:
    return load_backend(name, engine, asked_by="a test")


def test_a_good_plugin_is_listed_then_told_then_built(install: Install) -> None:
    module = install(GOOD_PLUGIN)
    (row,) = [row for row in list_backends() if row.name == "toy"]
    assert (row.distribution, row.version, row.problem) == ("recs-toy", "1.5", None)
    assert row.info is not None and row.info.summary == "A toy"
    backend = load_backend("toy", "one", asked_by="a test", speed=3)
    assert (backend.engine, backend.options) == ("one", {"speed": 3})  # type: ignore[attr-defined]
    assert sys.modules[module].heard == [("toy", "a test", 0)]


def test_missing(install: Install) -> None:
    install(GOOD_PLUGIN)
    text = message(BackendNotFound, lambda: load("toi"))
    assert "'toi'" in text and "did you mean 'toy'?" in text
    text = message(BackendNotFound, lambda: load("quite-else"))
    assert "toy" in text and "pip install" in text and "recs_core.backends" in text


def test_one_of_ours_that_is_missing_is_named_with_its_distribution() -> None:
    text = message(BackendNotFound, lambda: load_index("qdrant-of-many-shards", asked_by="a test"))
    assert text.endswith("pip install recs-core-qdrant")


def test_missing_engine(install: Install) -> None:
    install(GOOD_PLUGIN)
    text = message(BackendNotFound, lambda: load(engine="two"))
    assert "no engine 'two'" in text and "it has: one" in text and "recs-toy 1.5" in text


def test_rivals(install: Install) -> None:
    install(GOOD_PLUGIN)
    install(GOOD_PLUGIN, distribution="other-toy")
    text = message(BackendConflict, load)
    assert "other-toy 1.5 and by recs-toy 1.5" in text and "`pip uninstall other-toy`" in text
    rows = [row for row in list_backends() if row.name == "toy"]
    assert [row.distribution for row in rows] == ["other-toy", "recs-toy"]
    assert all(row.problem is not None and "claimed by" in row.problem for row in rows)
    assert "recs_toy_plugin" not in sys.modules


def test_two_copies_of_one_distribution_are_no_rivals(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(GOOD_PLUGIN)
    shutil.copytree(tmp_path / "recs_toy-1.5.dist-info", tmp_path / "copy" / "recs_toy-1.4.dist-info")
    monkeypatch.syspath_prepend(str(tmp_path / "copy"))
    assert backend_info("toy").name == "toy"


BROKEN: dict[str, tuple[str, list[str]]] = {
    "import error inside": ("import nothing_of_this_name", ["nothing_of_this_name", "pip check"]),
    "syntax error inside": ("def", ["SyntaxError"]),
    "any error inside": ("1 / 0", ["ZeroDivisionError"]),
    "hook misspelt": (
        GOOD_PLUGIN.replace("def recs_backends", "def recs_backend"),
        ["recs_backend that does not exist", "did you mean recs_backends?"],
    ),
    "hook with a wrong argument": (
        GOOD_PLUGIN.replace("def recs_backend_selected(info, source)", "def recs_backend_selected(info, origin)"),
        ["recs_backend_selected", "origin"],
    ),
    "hook not marked": (
        GOOD_PLUGIN.replace("@hookimpl\ndef recs_backends", "def recs_backends"),
        ["gives no manifest", "@recs_core.plugin.hookimpl"],
    ),
    "hook fails": (GOOD_PLUGIN.replace("return [", "return [undefined] + ["), ["recs_backends failed", "NameError"]),
    "misnamed": (GOOD_PLUGIN.replace('name="toy"', 'name="toi"'), ["named 'toy'", "gives 'toi'", "name both alike"]),
    "not a manifest": (
        GOOD_PLUGIN.replace("BackendInfo(", "dict("),
        ["must give BackendInfo, not dict"],
    ),
    "bad factory": (GOOD_PLUGIN.replace('"MODULE:Toy"', '"MODULE.Toy"'), ["'package.module:attribute'"]),
    "bad requirement": (
        GOOD_PLUGIN.replace("summary=", 'requires=("a.b",), summary='),
        ["'a.b'", "top-level modules"],
    ),
    "undeclared capability": (
        GOOD_PLUGIN.replace("in BACKEND_CAPABILITIES", "in BACKEND_CAPABILITIES if name != 'logq'"),
        ["does not declare logq", "No(reason)"],
    ),
    "unknown capability": (
        GOOD_PLUGIN.replace("BACKEND_CAPABILITIES}", "BACKEND_CAPABILITIES} | {'cosin': True}"),
        ["unknown capability 'cosin'", "did you mean 'cosine'?"],
    ),
    "a no without a reason": (
        GOOD_PLUGIN.replace("BACKEND_CAPABILITIES}", "BACKEND_CAPABILITIES} | {'cosine': False}"),
        ["'cosine' as False", "No(reason)"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken(install: Install, case: str) -> None:
    source, parts = BROKEN[case]
    install(source)
    text = message(BackendBroken, load)
    for part in ["backend 'toy' of recs-toy 1.5", *parts]:
        assert part in text
    (row,) = [row for row in list_backends() if row.name == "toy"]
    assert row.info is None
    assert row.problem is not None and parts[0] in row.problem


def test_a_failed_plugin_leaves_nothing_behind(install: Install) -> None:
    module = install(BROKEN["hook with a wrong argument"][0])
    message(BackendBroken, load)
    message(BackendBroken, load)  # not "already registered"
    source = sys.modules[module].__file__
    assert source is not None
    del sys.modules[module]
    with open(source, "w") as file:
        file.write(GOOD_PLUGIN.replace("MODULE", module) + "# mended, and of another length than before\n")
    assert load()


def test_entry_point_to_a_module_that_is_not_there(install: Install) -> None:
    install(None)
    text = message(BackendBroken, load)
    assert "recs_toy_plugin, which is not there" in text and "pip install --force-reinstall recs-toy" in text


def test_entry_point_to_an_attribute_that_is_not_there(install: Install) -> None:
    install(GOOD_PLUGIN, attribute=":plugin")
    assert "AttributeError" in message(BackendBroken, load)


def test_what_it_requires_is_not_installed(install: Install) -> None:
    module = install(GOOD_PLUGIN.replace("summary=", 'requires=("sys", "no_such_framework"), summary='))
    text = message(MissingExtra, load)
    assert "needs no_such_framework, not installed: `pip install no-such-framework`" in text
    assert sys.modules[module].built == 0
    (row,) = [row for row in list_backends() if row.name == "toy"]
    assert row.info is not None and row.problem is not None and "no_such_framework" in row.problem


FACTORIES: dict[str, tuple[str, str]] = {
    "module missing": (GOOD_PLUGIN.replace('"MODULE:Toy"', '"no_such_module:Toy"'), "ModuleNotFoundError"),
    "attribute missing": (GOOD_PLUGIN.replace('"MODULE:Toy"', '"MODULE:Toi"'), "AttributeError"),
    "raises": (GOOD_PLUGIN.replace("built += 1", "1 / 0"), "ZeroDivisionError"),
    "not a backend": (GOOD_PLUGIN.replace("def trainer", "def coach"), "a Toy without trainer"),
}


@pytest.mark.parametrize("case", FACTORIES)
def test_factory(install: Install, case: str) -> None:
    source, part = FACTORIES[case]
    install(source)
    text = message(BackendBroken, load)
    assert part in text and "its factory" in text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("speed=1, mood=None", "has no option 'spede'; did you mean 'speed'?"),
        ("mood=None, depth=2", "has no option 'spede'; it has: depth, mood"),
        ("asked_by=None", "has no option 'spede'; it has none"),
    ],
)
def test_an_unknown_option_is_the_callers_mistake(install: Install, parameters: str, said: str) -> None:
    module = install(GOOD_PLUGIN.replace("**options", parameters).replace("engine, options", "engine, {}"))
    text = message(ConfigError, lambda: load_backend("toy", asked_by="a test", spede=3))
    assert "backend 'toy' of recs-toy 1.5" in text and said in text and "broken" not in text
    assert sys.modules[module].built == 0


def test_an_error_of_ours_from_a_factory_passes_as_it_is(install: Install) -> None:
    install(
        GOOD_PLUGIN.replace(
            "built += 1", "from recs_core.contract.errors import DataError; raise DataError('as it is')"
        )
    )
    with pytest.raises(DataError, match="^as it is$"):
        load()


def test_a_hook_that_hears_of_the_selection_and_fails(install: Install) -> None:
    install(GOOD_PLUGIN.replace("heard.append(", "print(undefined"))
    assert "recs_backend_selected failed: NameError" in message(BackendBroken, load)


def test_only_the_named_plugin_is_imported(install: Install) -> None:
    install(GOOD_PLUGIN)
    other = install("raise SystemExit('imported')", name="other", distribution="recs-other")
    assert load()
    assert other not in sys.modules


def test_a_listing_holds_the_broken_beside_the_sound(install: Install) -> None:
    install(GOOD_PLUGIN)
    install("import nothing_of_this_name", name="other", distribution="recs-other")
    problems = {row.name: row.problem for row in list_backends()}
    assert problems["toy"] is None
    assert "nothing_of_this_name" in str(problems["other"])


GOOD_INDEX = """
from recs_core.plugin import INDEX_CAPABILITIES, IndexInfo, No, hookimpl

CAPABILITIES = {name: No("a toy has none") for name in INDEX_CAPABILITIES}

@hookimpl
def recs_indexes():
    return [IndexInfo(name="toy", factory="MODULE:Toy", summary="A toy", recall_floor=0.5, capabilities=CAPABILITIES)]

class Toy:
    info = recs_indexes()[0]
    def build(self, vectors): ...
    def search(self, queries, k): ...
"""


def test_an_index_comes_by_the_same_road(install: Install) -> None:
    install(GOOD_INDEX, group="recs_core.indexes")
    assert load_index("toy").info.name == "toy"
    assert "toy" in [row.name for row in list_indexes() if row.problem is None]
    assert "toy" not in [row.name for row in list_backends()]
    assert "no index 'toi'" in message(BackendNotFound, lambda: load_index("toi", asked_by="a test"))


def test_a_name_of_the_other_kind_is_told_from_an_unknown_one(install: Install) -> None:
    install(GOOD_INDEX, group="recs_core.indexes")
    assert message(BackendNotFound, load).endswith("; 'toy' is an index: add --index, or write index='toy'")
    text = message(BackendNotFound, lambda: load_index("keras", asked_by="a test"))
    assert text.endswith("; 'keras' is a backend: leave out --index, or write backend='keras'")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "recall_floor=None; declare how much"),
        ({"recall_floor": 0}, "recall_floor=0; declare how much"),
        ({"recall_floor": 1.1}, "recall_floor=1.1; declare how much"),
        ({"recall_floor": float("nan")}, "recall_floor=nan; declare how much"),
        ({"is_exact": True, "recall_floor": 1.0}, "is exact, which no recall_floor goes with"),
    ],
)
def test_an_index_is_exact_or_has_a_floor(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=f"index 'toy' (has )?{said}"):
        IndexInfo("toy", "toy:Toy", "A toy", **declared)


def test_a_manifest_without_a_floor_is_the_plugins_fault(install: Install) -> None:
    install(GOOD_INDEX.replace("recall_floor=0.5, ", ""), group="recs_core.indexes")
    text = message(BackendBroken, lambda: load_index("toy", asked_by="a test"))
    assert "recs-toy 1.5" in text and "recall_floor=None" in text


def test_an_index_of_another_metric_is_refused(install: Install) -> None:
    install(GOOD_INDEX.replace("summary=", 'metric="l2", summary='), group="recs_core.indexes")
    assert "'l2'" in message(UnsupportedFeature, lambda: load_index("toy", asked_by="a test"))


def test_the_built_in_enter_by_the_same_hooks() -> None:
    built_in = [row for row in [*list_backends(), *list_indexes()] if row.distribution == "recs-core"]
    assert [(row.name, row.problem) for row in built_in] == [("keras", None), ("exact", None), ("int8", None)]
    assert load_index("exact").info.name == "exact"


def test_a_factory_that_asks_is_told_who_asked(install: Install) -> None:
    install(
        GOOD_PLUGIN.replace("engine=None, **options", "engine=None, asked_by=None, **options").replace(
            "engine, options", "asked_by, options"
        )
    )
    assert load().engine == "a test"  # type: ignore[attr-defined]
