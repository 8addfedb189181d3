"""A bundle that several workers write is the bundle that one writes, to whoever reads it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

import recs_core as recs
from recs_core import bundle, spread
from recs_core.bundle.shares import make_ready, weights_of, write_share
from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.rows import Rows
from recs_core.reference.backend import OracleBackend
from tests.bundle.forge import resign
from tests.bundle.small import every_feature, fitted, interactions

QUERIES = list(range(100, 107))
BIASED = {"retrieval": recs.RetrievalSpec(learn_temperature=True, candidate_bias=True)}


def write(model, folder, size):
    """The model's bundle as `size` workers write it."""
    make_ready(folder)
    value = model.fitted()
    shares = [write_share(folder, value, rank, size) for rank in range(size)]
    whole = bundle.read(model.save(folder.parent / "alone")).fitted
    towers = spread.answering(model, whole)
    return bundle.save(value, folder, towers=towers, shares=shares)


@pytest.fixture(scope="module")
def model():
    return fitted(every_feature(**BIASED))


@pytest.fixture(params=[2, 3, 5])
def shared(model, tmp_path, request):
    return write(model, tmp_path / "several", request.param)


def test_every_reader_finds_the_same_model(model, shared):
    recs.verify(shared)
    stored = bundle.read(shared).fitted
    for name, weight in model.weights().items():
        np.testing.assert_array_equal(np.asarray(stored.weights[name]), weight, err_msg=name)
    assert isinstance(stored.weights["table/item"], Rows)  # read where it lies, and never put together
    expected = model.recommend(QUERIES, k=4)
    bare = recs.load(shared, runtime="numpy")
    assert bare.recommend(QUERIES, k=4).ids.tolist() == expected.ids.tolist()
    assert bare.similar(["i1"], k=3).ids.tolist() == model.similar(["i1"], k=3).ids.tolist()
    again = recs.load(shared, backend=OracleBackend())
    assert again.recommend(QUERIES, k=4).ids.tolist() == expected.ids.tolist()


def test_training_goes_on_from_it_bit_for_bit(model, shared, tmp_path):
    alone = recs.load(model.save(tmp_path / "one"), backend=OracleBackend())
    several = recs.load(shared, backend=OracleBackend())
    for one in (alone, several):
        one.fit(interactions(), epochs=1, progress=False)
    for name, weight in alone.weights().items():
        np.testing.assert_array_equal(several.weights()[name], weight, err_msg=name)


def test_it_grows_and_is_saved_again_as_one(shared, tmp_path):
    bare = recs.load(shared, runtime="numpy")
    more = interactions(80, queries=9, candidates=11)
    bare.extend(more)
    one = recs.load(shared, backend=OracleBackend())
    one.extend(more)
    assert bare.recommend([107], k=3).ids.tolist() == one.recommend([107], k=3).ids.tolist()
    files = bundle.info(one.save(tmp_path / "one")).manifest["contents"]
    assert isinstance(files["weights"], str)
    recs.verify(tmp_path / "one")


def test_a_save_over_it_leaves_no_file_of_the_old_one(model, shared):
    model.save(shared)
    assert not bundle.info(shared).leftovers
    assert sum(path.name.startswith("weights-") for path in shared.iterdir()) == 1


def test_what_workers_wrote_is_no_part_of_a_bundle_until_it_is_taken_up(model, tmp_path):
    folder = model.save(tmp_path / "b")
    before = (folder / "manifest.json").read_bytes()
    value = fitted(every_feature(**BIASED, seed=7)).fitted()
    shares = [write_share(folder, value, rank, 2) for rank in range(2)]
    recs.verify(folder)
    assert (folder / "manifest.json").read_bytes() == before
    np.testing.assert_array_equal(np.asarray(weights_of(folder, shares)["table/item"]), value.weights["table/item"])
    model.save(folder)
    assert not bundle.info(folder).leftovers


def test_a_worker_writes_no_number_that_is_not_finite(model, tmp_path):
    value = model.fitted()
    value.weights["table/item"][3] = np.nan
    make_ready(tmp_path / "b")
    write_share(tmp_path / "b", value, 0, 2)
    with pytest.raises(BundleError, match="'table/item' holds NaN"):
        write_share(tmp_path / "b", value, 1, 2)


def test_a_worker_refuses_a_type_that_the_format_lacks_as_one_alone_does(model, tmp_path):
    value = model.fitted()
    odd = replace(value, weights={**value.weights, "table/item": value.weights["table/item"].astype(np.int16)})
    make_ready(tmp_path / "b")
    with pytest.raises(BundleError, match="'table/item' is int16; a bundle holds"):
        write_share(tmp_path / "b", odd, 0, 2)


def swapped(fields):
    fields["contents"]["weights"].reverse()


def dropped(fields):
    fields["files"].pop(fields["contents"]["weights"].pop())


@pytest.mark.parametrize("change, said", [
    (swapped, "contents, weights"),
    (dropped, "weights|no part of this bundle"),
    (lambda fields: fields["contents"].update(weights=[]), "weights is of one file, not of 0"),
    (lambda fields: fields["contents"].update(golden=[fields["contents"]["golden"]] * 2), "golden is of one file"),
    (lambda fields: fields["contents"].update(weights=[fields["contents"]["weights"][0]] * 3), "contents, weights"),
])  # fmt: skip
def test_files_that_are_not_one_model_are_refused(shared, change, said):
    resign(shared, change)
    with pytest.raises(BundleError, match=said):
        recs.verify(shared)


def test_every_file_is_held_by_its_digest(shared):
    for name in bundle.info(shared).manifest["contents"]["weights"]:
        copy = shared.parent / "copy"
        shutil.copytree(shared, copy)
        content = bytearray((copy / name).read_bytes())
        content[-1] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(BundleError, match=name):
            recs.verify(copy)
        shutil.rmtree(copy)


def test_shares_of_different_models_are_refused(model, tmp_path):
    make_ready(tmp_path / "b")
    other = fitted(every_feature(retrieval=recs.RetrievalSpec(candidate_bias=False)))
    shares = [write_share(tmp_path / "b", model.fitted(), 0, 2), write_share(tmp_path / "b", other.fitted(), 1, 2)]
    with pytest.raises(DataError, match="'task/bias' is not in part 1 of 2"):
        weights_of(tmp_path / "b", shares)
