"""Manifests written anew with the right digest: every field gone or of another type, fields of a later version, ids in
another order. What comes is `BundleError`, or a model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings

import pyarrow as pa
import pytest

import recs_core as recs
from recs_core import bundle
from recs_core.cli.main import main
from recs_core.contract.errors import BundleError
from recs_core.contract.vocabulary import Vocabulary
from recs_core.reference.backend import OracleBackend
from recs_core.tables import id_files as ids
from recs_core.training import EarlyStopping
from tests.bundle.forge import resign
from tests.bundle.small import every_feature, interactions

WRONG = (None, -1, 1.5, 10**400, "x", [], ["x"], {}, {"x": 1}, True)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    data = interactions()
    model = every_feature()
    model.fit(data, data, early_stopping=EarlyStopping("recall@10"), progress=False)
    model.run.open = True  # as a checkpoint: the best weights are kept too
    return model.save(tmp_path_factory.mktemp("forged") / "b", metrics={"mrr": 0.5, "recall@10": (0.5, 0.4, 0.6)})


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "b")


def places(value, keys=()):
    """The keys that lead to each value of a manifest; of a list, to its first."""
    if keys:
        yield keys
    inside = value.items() if isinstance(value, dict) else [(0, value[0])] if isinstance(value, list) and value else []
    for key, item in inside:
        yield from places(item, (*keys, key))


def change(fields, keys, do):
    for key in keys[:-1]:
        fields = fields[key]
    do(fields, keys[-1])


def remove(parent, key):
    del parent[key]


def put(value):
    def do(parent, key):
        parent[key] = value

    return do


def faults_of(folder):
    """What came that is neither success nor `BundleError`."""
    asked = {
        "numpy": lambda: recs.load(folder, runtime="numpy"),
        "unverified": lambda: recs.load(folder, runtime="numpy", verify=False),
        "backend": lambda: recs.load(folder, backend=OracleBackend()),
        "verify": lambda: recs.verify(folder),
        "info": lambda: bundle.info(folder).needed,
        "describe": lambda: bundle.describe(folder, licence="CC0"),
    }
    for name, ask in asked.items():
        try:
            ask()
        except BundleError as error:
            assert "\n" not in str(error)
        except Exception as error:
            yield f"{name}: {type(error).__name__} {error}"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["created", "model", "schema", "contents", "position", "run", "history", "provenance",
                                  "metrics", "licence", "files", "card", "version"])  # fmt: skip
def test_every_field_gone_or_of_another_type(folder, part):
    path = folder / "manifest.json"
    original = path.read_bytes()
    fields = json.loads(original)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # absurd numbers overflow
        for keys in places({part: fields[part]}):
            for what, do in [("gone", remove), *((f"{value!r:.20}", put(value)) for value in WRONG)]:
                path.write_bytes(original)
                resign(folder, lambda fields, keys=keys, do=do: change(fields, keys, do))
                found += [f"{'/'.join(map(str, keys))} {what}: {fault}" for fault in faults_of(folder)]
    assert not found


def test_the_fields_most_often_wrong(folder):
    path = folder / "manifest.json"
    original = path.read_bytes()
    for keys in (("model",), ("provenance", "data"), ("history", "epochs", 0), ("run", "early_stopping"), ("schema",)):
        for value in (None, 1.5, "x", [], {}):
            path.write_bytes(original)
            resign(folder, lambda fields, keys=keys, value=value: change(fields, keys, put(value)))
            assert list(faults_of(folder)) == []


def test_the_command_line_says_it_in_one_line(folder, capsys):
    resign(folder, lambda fields: fields.pop("provenance"))
    for command in ("info", "verify"):
        with pytest.raises(SystemExit) as ended:
            main(["bundle", command, str(folder)])
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"recs: {folder / 'manifest.json'}: has no provenance\n"


OBJECTS = [
    (), ("model",), ("model", "query"), ("model", "query", "features", 0), ("model", "retrieval"),
    ("model", "optimizer"), ("model", "training"), ("schema",), ("position",), ("run",), ("run", "settings"),
    ("run", "best"), ("run", "early_stopping"), ("history",), ("history", "epochs", 0), ("provenance",),
    ("provenance", "data"), ("card",),
]  # fmt: skip


def test_fields_of_a_later_version_are_ignored(folder):
    def add(fields):
        for keys in OBJECTS:
            change({"all": fields}, ("all", *keys), lambda parent, key: parent[key].update(of_a_later_version=[1]))

    resign(folder, add)
    recs.load(folder, runtime="numpy")
    model = recs.load(folder, backend=OracleBackend())
    assert model.run.best.rule == EarlyStopping("recall@10")
    model.fit(interactions(), interactions(), progress=False)
    recs.verify(folder)


def rename_ids(folder, role, change):
    """Put other ids in a role's file, named and signed correctly wherever it is named."""
    fields = bundle.info(folder).manifest
    old = fields["schema"][role]
    vocabulary = ids.read((folder / old).read_bytes(), folder / old, role)
    content = bytes(ids.content(Vocabulary(pa.array(change(vocabulary.ids.to_pylist())), role)))
    sha256 = hashlib.sha256(content).hexdigest()
    new = f"ids-{sha256[:16]}.arrow"
    (folder / old).unlink()
    (folder / new).write_bytes(content)

    def everywhere(fields):
        text = json.dumps(fields).replace(old, new)
        fields.clear()
        fields.update(json.loads(text))
        fields["files"][new] = {"length": len(content), "sha256": sha256}

    resign(folder, everywhere)


@pytest.mark.parametrize("options", [{"runtime": "numpy"}, {"backend": OracleBackend()}], ids=["numpy", "backend"])
@pytest.mark.parametrize("role", ["queries", "candidates"])
@pytest.mark.parametrize(
    "change",
    [lambda x: x[1:] + x[:1], lambda x: [*x[:3], x[4], x[3], *x[5:]]],
    ids=["shifted", "swapped"],
)
def test_ids_in_another_order_are_noticed(folder, role, change, options):
    rename_ids(folder, role, change)
    with pytest.raises(BundleError, match=f"golden.*the ids of '{role}' are not those that were saved"):
        recs.load(folder, **options)
    with pytest.raises(BundleError, match="in another order"):
        recs.verify(folder)


def test_a_readme_of_any_size_is_not_read(folder):
    os.truncate(folder / "README.md", 1 << 40)  # sparse: reading it would take forever and all memory
    assert recs.load(folder, runtime="numpy")
    assert bundle.info(folder).card_changed
    resign(folder, lambda fields: fields["card"].update(length=1 << 40))
    assert bundle.info(folder).card_changed


def test_a_readme_that_is_a_link_or_a_pipe_is_not_read(folder):
    card = folder / "README.md"
    card.rename(folder.parent / "aside")
    card.symlink_to(folder.parent / "aside")
    assert bundle.info(folder).card_changed
    card.unlink()
    os.mkfifo(card)
    assert bundle.info(folder).card_changed
    assert recs.load(folder, runtime="numpy")
