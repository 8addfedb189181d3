"""No truncation, no flipped bit and no foreign file gets past the loader."""

from __future__ import annotations

import logging

import pytest

import recs_core as recs
from recs_core import bundle
from recs_core.contract.errors import BundleError
from tests.bundle.small import fitted, ids_only, interactions

STRIDE = 97
"""The quick tests try every 97th place; the slow ones every byte. Coprime to 8, so that every bit of a byte is met."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    data = interactions(12, queries=2, candidates=3)
    return fitted(ids_only(), data).save(tmp_path_factory.mktemp("damage") / "b")


@pytest.fixture
def files(pristine):
    """Name → bytes of every file that is read; what a test did to them is undone."""
    before = {path.name: path.read_bytes() for path in pristine.iterdir()}
    yield {name: data for name, data in before.items() if name != "README.md"}
    for path in pristine.iterdir():
        if path.name not in before:
            path.unlink()
    for name, data in before.items():
        (pristine / name).write_bytes(data)


def load(path):
    return recs.load(path, runtime="numpy")


def refused(path, name):
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load(path)


def truncations(path, files, stride):
    for name, data in files.items():
        for length in range(0, len(data), stride):
            (path / name).write_bytes(data[:length])
            refused(path, name)
        (path / name).write_bytes(data + b"\0")
        refused(path, name)
        (path / name).write_bytes(data)


def flips(path, files, stride):
    for name, data in files.items():
        for bit in range(0, len(data) * 8, stride):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            (path / name).write_bytes(damaged)
            refused(path, name)
        (path / name).write_bytes(data)


def test_truncations_are_refused(pristine, files):
    truncations(pristine, files, STRIDE)
    load(pristine)


def test_flipped_bits_are_refused(pristine, files):
    flips(pristine, files, STRIDE)
    load(pristine)


@pytest.mark.slow
def test_every_truncation_is_refused(pristine, files):
    truncations(pristine, files, 1)


@pytest.mark.slow
def test_a_flipped_bit_in_every_byte_is_refused(pristine, files):
    flips(pristine, files, 7)  # below 8 and coprime to it: every byte, and every bit of a byte in turn


def test_a_missing_file_is_named(pristine, files):
    for name in files:
        (pristine / name).unlink()
        refused(pristine, name)
        (pristine / name).write_bytes(files[name])


def test_a_foreign_file_is_named(pristine, files):
    (pristine / "model.pkl").write_bytes(b"x")
    refused(pristine, "model.pkl")


def test_files_of_people_and_their_tools_are_left_alone(pristine, files):
    (pristine / ".gitattributes").write_text("*.safetensors binary")
    (pristine / "README.md").unlink()
    load(pristine)


@pytest.mark.parametrize(
    "name", ["weights-0123456789abcdef.safetensors", "weights.safetensors.tmp", "manifest.json.tmp"]
)
def test_leftovers_of_a_crash_are_ignored_said_and_removed_by_the_next_save(pristine, files, name, caplog):
    (pristine / name).write_bytes(b"half")
    with caplog.at_level(logging.WARNING, "recs_core"):
        load(pristine)
    assert name in caplog.text
    assert bundle.info(pristine).leftovers == (name,)
    fitted(ids_only(), interactions(12, queries=2, candidates=3)).save(pristine)
    assert not (pristine / name).exists()


def test_the_same_damage_is_refused_by_verify(pristine, files):
    name = next(name for name in files if name.startswith("weights"))
    (pristine / name).write_bytes(files[name][:-1] + bytes([files[name][-1] ^ 1]))
    with pytest.raises(BundleError, match="SHA-256"):
        recs.verify(pristine)
