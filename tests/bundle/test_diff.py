"""`recs bundle diff`: what changed from one bundle to another."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.cli.main import main
from recs_core.contract.errors import BundleError
from recs_core.difference import difference
from tests.bundle.small import every_feature, fitted, ids_only
from tests.growth import days


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle, and what the second day made of it."""
    folder = tmp_path_factory.mktemp("two")
    model = fitted(every_feature(), days.first())
    before = model.save(folder / "before", metrics={"recall@10": 0.25, "mrr": (0.1, 0.05, 0.2)})
    model.extend(days.second()).update_candidates(retire=["i2"])
    model.fit(days.second(), epochs=1, progress=False)
    return before, model.save(folder / "after", metrics={"recall@10": 0.5})


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code or 0)


def test_who_joined_and_retired_rows_and_metrics(two: tuple[Path, Path]) -> None:
    found = difference(*two)
    assert found.ids["candidates"].joined.to_pylist() == ["i9", "i10", "i11"]
    assert found.ids["queries"].joined.to_pylist() == [107, 108, 109]
    assert (found.ids["retired"].joined.to_pylist(), found.ids["retired"].before) == (["i2"], 0)
    assert found.rows["rows seen"] == (len(days.first()), len(days.first()) + len(days.second()))
    assert found.rows["table/item"] == (10, 13) and found.rows["epochs"] == (2, 3)
    assert found.metrics == {"recall@10": (0.25, 0.5), "mrr": ([0.1, 0.05, 0.2], None)}
    assert found.settings == {}
    back = difference(*reversed(two))
    assert back.ids["candidates"].gone.to_pylist() == ["i9", "i10", "i11"]
    assert back.ids["retired"].gone.to_pylist() == ["i2"]


def test_overlap_is_the_share_of_the_best_ten_that_both_have(two: tuple[Path, Path]) -> None:
    """By hand, from both models' lists; a bundle and itself agree in all."""
    lists = [recs.load(path, runtime="numpy").recommend([*range(100, 107)], k=10).ids.tolist() for path in two]
    shares = [len({*a} & {*b} - {None}) / 10 for a, b in zip(*lists, strict=True)]
    found = difference(*two).lists
    assert found is not None and found.queries == 7
    assert found.overlap == pytest.approx(sum(shares) / 7)
    itself = difference(two[0], two[0])
    assert itself.lists is not None and (itself.lists.overlap, itself.lists.same) == (1.0, 1.0)
    assert not itself.rows and not itself.settings


def test_declared_settings_by_name(two: tuple[Path, Path], tmp_path: Path) -> None:
    def wider(tower: recs.TowerSpec) -> recs.TowerSpec:
        features = [dataclasses.replace(f, dim=4) if f.name == "item" else f for f in tower.features]
        return dataclasses.replace(tower, features=features)

    model = every_feature()
    other = every_feature(
        query=wider(model.query),
        candidate=wider(model.candidate),
        optimizer=recs.Adam(0.01),
        seed=7,
    )
    path = fitted(other, days.first()).save(tmp_path / "other")
    assert difference(two[0], path).settings == {
        "query.features.item.dim": (3, 4),
        "candidate.features.item.dim": (3, 4),
        "optimizer.learning_rate": (0.05, 0.01),
        "seed": (42, 7),
    }


def test_ids_of_another_type_have_nothing_in_common(two: tuple[Path, Path], tmp_path: Path) -> None:
    data = recs.Interactions.from_table({"who": ["a", "b"], "item": [1, 2]}, query="who", candidate="item")
    path = fitted(ids_only(query=recs.TowerSpec([recs.Categorical("who", dim=2)])), data).save(tmp_path / "other")
    found = difference(two[0], path)
    assert found.ids["candidates"].joined.equals(pa.array([1, 2]))
    assert (found.lists, found.why) == (None, "no query is known to both")


def test_the_command(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "diff", *two) == 0
    said = capsys.readouterr().out
    assert "overlap@10" in said and "'i9', 'i10', 'i11'" in said and "table/item" in said and "0.2500" in said
    assert run("bundle", "diff", *two, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ids"]["retired"] == {"before": 0, "after": 1, "joined": ["i2"], "gone": []}
    assert told["lists"]["k"] == 10
    assert run("bundle", "diff", two[0], tmp_path) == 2
    assert str(tmp_path) in capsys.readouterr().err
    with pytest.raises(BundleError):
        difference(tmp_path, two[0])
