"""An index in a bundle: chosen by measuring, built, kept under the bundle's digests, used where it is served."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import recs_core as recs
from recs_core.bundle import info
from recs_core.cli.main import app
from recs_core.contract.errors import BundleError, ConfigError, UnsupportedFeature
from recs_core.fitted import Fitted
from recs_core.indexing import build, tune
from recs_core.reference.backend import OracleBackend
from recs_core.service.serving import Served
from recs_core.storage import manifest
from tests.bundle.small import ids_only, interactions

CANDIDATES = 3000


@pytest.fixture(scope="module")
def trained() -> Fitted:
    model = ids_only()
    model.fit(interactions(CANDIDATES + 40, queries=40, candidates=CANDIDATES), progress=False)
    return model.fitted()


@pytest.fixture
def bundle(trained, tmp_path):
    recs.TwoTower.of(trained, backend=OracleBackend()).save(tmp_path / "bundle")
    return tmp_path / "bundle"


def served(bundle, **options):
    return recs.load(bundle, runtime="numpy", **options)


def test_a_bundle_keeps_an_index_that_serving_restores(bundle, monkeypatch):
    from recs_core.index.int8 import Int8Index

    before = served(bundle).recommend([100, 101], k=10, exclude="seen")
    measured = build(bundle, "int8:rescore=30", queries=30)
    assert (measured.spec, measured.k, measured.queries) == ("int8:rescore=30", 10, 30)
    assert measured.size == CANDIDATES * (3 + 4), "a byte for each number, the bias among them, and a float32"
    monkeypatch.setattr(Int8Index, "build", lambda *_: pytest.fail("nothing is built where it is served"))
    model = served(bundle)
    assert model.index.spec == "int8:rescore=30"
    found = model.recommend([100, 101], k=10, exclude="seen")
    np.testing.assert_array_equal(found.ids, before.ids)
    np.testing.assert_array_equal(found.scores, before.scores)
    service = Served.of(str(bundle))
    assert service.searched.info.name == "int8" and not service.exact
    assert served(bundle, index="exact").index == "exact"
    recs.verify(bundle)


def test_the_card_and_the_manifest_state_what_was_measured(bundle):
    measured = build(bundle, "int8", queries=30)
    stated = info(bundle).stated.index
    assert (stated.spec, stated.recall, stated.k, stated.queries) == ("int8", measured.recall, 10, 30)
    assert stated.provider.startswith("recs-core ")
    assert re.search(
        r"## Index\n\n`int8` of recs-core .*: recall@10 1\b.*on 30 training queries", (bundle / "README.md").read_text()
    )
    assert not info(bundle).card_changed


def test_another_index_takes_the_place_of_the_first_and_a_save_of_both(bundle, trained):
    build(bundle, "int8", queries=5)
    first = info(bundle).stated.contents["index"]
    build(bundle, "int8:rescore=2", queries=5)
    assert info(bundle).stated.index.spec == "int8:rescore=2"
    assert first == info(bundle).stated.contents["index"] and (bundle / first).exists()  # the same codes
    recs.TwoTower.of(trained, backend=OracleBackend()).save(bundle)
    assert info(bundle).stated.index is None and not (bundle / first).exists()


def test_an_index_that_a_save_drops_is_said_once_with_what_builds_it(bundle, trained, caplog):
    model = recs.TwoTower.of(trained, backend=OracleBackend())
    model.save(bundle)
    assert not caplog.records, "there was none"
    build(bundle, "int8:rescore=30", queries=30)
    model.save(bundle)
    model.save(bundle)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith(f"`recs index build {bundle} --index int8:rescore=30` builds one of these")
    assert served(bundle).index is None


def test_a_model_that_trains_on_is_searched_exactly(bundle):
    build(bundle, "int8", queries=5)
    assert recs.load(bundle, backend=OracleBackend()).index is None


def test_damage_of_the_index_is_found(bundle):
    build(bundle, "int8", queries=5)
    file = bundle / info(bundle).stated.contents["index"]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=f"{file.name}: is damaged"):
        served(bundle)


def forged(bundle, **index):
    fields = {name: value for name, value in manifest.read(bundle)[1].items() if name not in manifest.OWN}
    fields["index"] = {**fields["index"], **index}
    (bundle / "manifest.json").write_bytes(manifest.encode(bundle, fields))


def test_a_plugin_that_is_absent_names_the_line_to_install_it(bundle):
    build(bundle, "int8", queries=5)
    forged(bundle, spec="far-away:m=3", provider="recs-core-far 2.0")
    with pytest.raises(
        LookupError,
        match="index-.*'far-away:m=3' of recs-core-far 2.0.*pip install recs-core-far, or search with index='exact'",
    ):
        served(bundle)
    assert served(bundle, index="exact").recommend([100], k=3).ids.shape == (1, 3)
    with pytest.raises(LookupError, match="pip install recs-core-far"):
        Served.of(str(bundle))


def test_parts_of_another_index_are_refused(bundle):
    build(bundle, "int8", queries=5)
    forged(bundle, spec="exact")
    with pytest.raises(BundleError, match="index 'exact' as it is installed here cannot be restored"):
        served(bundle)


def test_an_index_that_cannot_be_stored_changes_nothing(bundle):
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(UnsupportedFeature, match="index 'exact' cannot be stored: nothing is made of the vectors"):
        build(bundle, "exact")
    with pytest.raises(BundleError, match="no bundle"):
        build(bundle.parent, "int8")
    assert (bundle / "manifest.json").read_bytes() == before


def test_tuning_names_the_quickest_of_those_that_find_enough(bundle):
    found = tune(bundle, ["int8"], recall=0.5, queries=20, k=5)
    assert [one.spec for one in found.tried] == ["exact", *(f"int8:rescore={n}" for n in (2, 5, 10, 20, 50))]
    assert found.tried[0].recall == 1 and all(one.queries == 20 and one.k == 5 for one in found.tried)
    enough = [one for one in found.tried if one.recall >= 0.5]
    assert found.best in enough and found.best.per_second == max(one.per_second for one in enough)
    recalls = [one.recall for one in found.tried[1:]]
    assert recalls == sorted(recalls), "more that is scored exactly finds no less"
    assert [one.spec for one in tune(bundle, ["int8:rescore=7"], queries=5).tried] == ["exact", "int8:rescore=7"]
    with pytest.raises(ConfigError, match="recall is a share"):
        tune(bundle, recall=95)


def test_the_commands(bundle, tmp_path):
    shell = CliRunner()
    plot = tmp_path / "tune.svg"
    asked = ["index", "tune", str(bundle), "--index", "int8", "--queries", "5", "--plot", str(plot)]
    told = shell.invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "recall@10" in told.output and "int8:rescore=50" in told.output
    assert plot.read_text().startswith("<svg") and "int8:rescore=2 finds" in plot.read_text()
    data = json.loads(shell.invoke(app, [*asked[:-2], "--json"]).stdout)
    assert data["tried"][0]["spec"] == "exact" and data["best"] in {one["spec"] for one in data["tried"]}
    told = shell.invoke(app, ["index", "build", str(bundle), "--index", "int8", "--queries", "5"])
    assert told.exit_code == 0 and "holds the index int8" in told.output
    told = shell.invoke(app, ["recommend", str(bundle), "--query", "100", "-k", "2"])
    assert told.exit_code == 0 and "index 'int8', which the bundle holds, is approximate" in told.stderr
