"""What each page needs before what it shows can be done."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import recs_core as recs
from tests.pages_done import (
    CUSTOMER,
    a_graph_answers_as_the_bundle,
    bundle_serves,
    callbacks_were_heard,
    dask_answers_as_one_machine,
    index_was_kept,
    nobody_retired_came_back,
    readme_holds,
    served_as_asked,
    service_answers,
    settings_are_read,
    slices_were_shown,
    the_file_answers,
)

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Page:
    """`setup` prepares the working folder and gives the names that the page takes for granted; `after` gets all names
    and what was printed. `needs`: modules without which the page cannot be done. `followed_by`: a test of its own does
    the page instead. `made`: files that `setup` has the source write into the working folder; they are the page then.
    """

    needs: tuple[str, ...] = ()
    slow: bool = False
    setup: Callable[[], dict[str, Any]] = dict
    after: Callable[[dict[str, Any], str], None] = lambda names, printed: None
    followed_by: str | None = None
    made: tuple[str, ...] = ()


def purchases() -> recs.Interactions:
    """A few thousand real purchases, the customer whom the pages ask about among them."""
    data = recs.datasets.load("online-retail")
    customers = pa.concat_arrays([pa.array([CUSTOMER]), data.query_ids.ids[:39].cast(pa.string())])
    table = data.to_table()
    rows = table.filter(pc.is_in(table[data.query_name], customers)).combine_chunks()
    return recs.Interactions.from_table(
        rows, query=data.query_name, candidate=data.candidate_name, timestamp=data.timestamp_name
    )


def small_model(train: recs.Interactions, backend: str) -> recs.TwoTower:
    """A model of the purchases, trained for a moment."""
    customer = recs.TowerSpec([recs.Categorical(train.query_name, dim=8)])
    item = recs.TowerSpec([recs.Categorical(train.candidate_name, dim=8)])
    model = recs.TwoTower(customer, item, backend=backend)
    model.fit(train, epochs=1, batch_size=4096, progress=False)
    return model


def bundle_page() -> dict[str, Any]:
    """A model, its data, a file of queries, and a tower of someone's own."""
    from torch import nn

    train = purchases()
    pq.write_table(pa.table({train.query_name: [CUSTOMER]}), "q.parquet")
    return {
        "train": train,
        "test": train,
        "model": small_model(train, "torch"),
        "items": recs.TowerSpec([recs.Categorical(train.candidate_name, dim=8)]),
        "make_tower": lambda: nn.Embedding(len(train.query_ids) + 1, 8),
    }


def callbacks_page() -> dict[str, Any]:
    """A model that has begun, and a test part."""
    train, test = purchases().split(by="time", test=0.2, known_only=True)
    return {"train": train, "test": test, "model": small_model(train, "torch")}


def evaluation_page() -> dict[str, Any]:
    """A model of some customers, whose countries are known, and a test part."""
    data = recs.datasets.load("online-retail")
    some = data.take(data.query_codes < 300).filter(min_per_query=1, min_per_candidate=1)
    train, test = some.split(by="time", test=0.2)
    return {"train": train, "test": test, "model": small_model(train, "torch")}


def grow_page() -> dict[str, Any]:
    """A model of the purchases before a Monday, whose candidates have a price, and that day's."""
    data = purchases()
    items = data.candidate_ids.ids
    table = data.to_table()
    prices = pa.table({data.candidate_name: items, "price": np.linspace(1.0, 9.0, len(items))})
    names = {"query": data.query_name, "candidate": data.candidate_name, "timestamp": data.timestamp_name}
    at = np.asarray(table[data.timestamp_name])
    monday = at >= np.quantile(at, 0.98)
    parts = [
        recs.Interactions.from_table(table.filter(pa.array(p)), **names, candidates=prices) for p in (~monday, monday)
    ]
    customer = recs.TowerSpec([recs.History(data.candidate_name, dim=9)])
    item = recs.TowerSpec([recs.Categorical(data.candidate_name, dim=9), recs.Numeric("price")], layers=[9])
    model = recs.TwoTower(customer, item, backend="torch")
    model.fit(parts[0], epochs=1, progress=False)
    return {"recs": recs, "model": model, "monday": parts[1]}


def saved_bundle() -> dict[str, Any]:
    """A bundle of the README's recipe in the working folder."""
    train = purchases()
    model = recs.recipe("history", train, backend="tensorflow")
    model.fit(train, epochs=1, progress=False)
    model.save("bundle")
    return {}


TOWERS = """
import keras

def make_tower():
    tower = keras.Sequential([keras.layers.Embedding({rows}, 8)])
    tower.build((None,))
    return tower
"""


def cards() -> dict[str, Any]:
    """Three bundles: a declared model, and two with a tower of someone's own, who says what builds it or does not."""
    train = purchases()
    small_model(train, "keras").save("bundle")
    Path("shop").mkdir()
    Path("shop/towers.py").write_text(TOWERS.format(rows=len(train.query_ids) + 1))
    towers = importlib.import_module("shop.towers")
    items = recs.TowerSpec([recs.Categorical(train.candidate_name, dim=8)])
    for name, rebuild in (("said", "shop.towers:make_tower"), ("unsaid", None)):
        model = recs.TwoTower(recs.Adopted(towers.make_tower(), rebuild=rebuild), items, backend="keras")
        model.fit(train, epochs=1, batch_size=4096, progress=False)
        model.save(name)
    return {"query_tower": towers.make_tower()}


def quickstart() -> dict[str, Any]:
    """The checkout's examples, and a file of purchases beside them."""
    Path("examples").symlink_to(ROOT / "examples")
    pq.write_table(purchases().to_table(), "purchases.parquet")
    return {}


def tensorflow_readme() -> dict[str, Any]:
    return {**quickstart(), "train": purchases()}


def keras_readme() -> dict[str, Any]:
    return {"train": purchases()}


def keras_loop() -> dict[str, Any]:
    """What a loop of Keras 3's has at hand."""
    train = purchases()
    model = recs.recipe("history", train, backend="keras").build(train)
    import keras  # after the backend has chosen its engine

    return {"keras": keras, "train": train, "model": model}


def tensorflow_loop() -> dict[str, Any]:
    """What a loop of Keras's has at hand."""
    from recs_core_tensorflow import tf

    train = purchases()
    return {"tf": tf, "train": train, "model": recs.recipe("history", train, backend="tensorflow").build(train)}


def numpy_plugin() -> dict[str, Any]:
    """The example of a plugin, as installed."""
    return installed("numpy", "recs_core_numpy.plugin", "")


def mine() -> dict[str, Any]:
    """A backend called `mine`, as installed: the example of a plugin under another name."""
    return installed(
        "mine",
        "recs_core_mine",
        """
from dataclasses import replace
from recs_core.plugin import hookimpl
from recs_core_numpy import backend, plugin

(INFO,) = (replace(info, name="mine", factory="recs_core_mine:create") for info in plugin.recs_backends())

@hookimpl
def recs_backends():
    return [INFO]

class Mine(backend.Backend):
    info = INFO

def create(engine=None):
    return Mine()
""",
    )


def installed(name: str, module: str, source: str) -> dict[str, Any]:
    """A backend as an installer would leave it, for every process that is started from here."""
    site = Path("site").resolve()
    info = site / f"recs_core_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: recs-core-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[recs_core.backends]\n{name} = {module}\n")
    if source:
        (site / f"{module}.py").write_text(source)
    paths = [str(site), str(ROOT / "examples/numpy_backend_plugin/src"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return {}


def torch_readme() -> dict[str, Any]:
    return {"train": purchases()}


def torch_loop() -> dict[str, Any]:
    """What a loop of PyTorch's has at hand."""
    train = purchases()
    return {"train": train, "model": recs.recipe("history", train, backend="torch")}


def a_new_item() -> dict[str, Any]:
    """A model whose items have a price, and a table with an item that it does not know."""
    data = purchases()
    items = data.candidate_ids.ids
    prices = pa.table({data.candidate_name: items, "price": np.linspace(1.0, 9.0, len(items))})
    train = recs.Interactions.from_table(
        data.to_table().select([data.query_name, data.candidate_name]),
        query=data.query_name,
        candidate=data.candidate_name,
        candidates=prices,
    )
    customer = recs.TowerSpec([recs.Categorical(train.query_name, dim=8)])
    item = recs.TowerSpec([recs.Categorical(train.candidate_name, dim=7), recs.Numeric("price")])
    model = recs.TwoTower(customer, item, backend="keras")
    model.fit(train, epochs=1, batch_size=4096, progress=False)
    return {"model": model, "new": pa.table({train.candidate_name: ["NEW"], "price": [2.5]})}


def bundle_to_serve() -> dict[str, Any]:
    """A bundle of a few purchases."""
    small_model(purchases(), "torch").save("bundle")
    return {}


def queries_to_answer() -> dict[str, Any]:
    """A bundle of a few purchases, and two files of its customers."""
    customers = purchases().query_ids.ids
    Path("queries").mkdir()
    for name, ids in (("a", customers[:20]), ("b", customers[20:])):
        pq.write_table(pa.table({"customer_id": ids}), f"queries/{name}.parquet")
    return bundle_to_serve()


def model_to_index() -> dict[str, Any]:
    """A model of a few purchases."""
    return {"model": small_model(purchases(), "torch")}


def a_log() -> dict[str, Any]:
    """A bundle, and the log of a service that answered all its customers."""
    import logging

    from starlette.testclient import TestClient

    from recs_core.service import asgi
    from recs_core.service.logs import Lines

    names = bundle_to_serve()
    written, logger = logging.FileHandler("log.jsonl", encoding="utf-8"), logging.getLogger("recs_core.service")
    written.setFormatter(Lines())
    logger.addHandler(written)
    logger.setLevel(logging.INFO)
    with TestClient(asgi("bundle", log_answers=True)) as client:
        while client.get("/readyz").status_code == 503:
            pass
        for customer in recs.load("bundle", runtime="numpy").schema.queries.ids.to_pylist():
            client.post("/recommend", json={"queries": [customer], "exclude_seen": True})
    logger.removeHandler(written)
    written.close()
    return names


TORCH, TENSORFLOW = ("torch", "recs_core_torch"), ("tensorflow", "recs_core_tensorflow")
CARDS = ("bundle/README.md", "said/README.md", "unsaid/README.md")
BY_DOING_IT = "tests/test_docs_write_a_plugin.py"

PAGES = {
    "README.md": Page((*TORCH, *TENSORFLOW, "jax"), slow=True, after=readme_holds),
    "docs/batch.md": Page(("dask", *TORCH), setup=queries_to_answer, after=dask_answers_as_one_machine),
    "docs/bundle.md": Page((*TORCH, *TENSORFLOW, "jax"), slow=True, setup=bundle_page),
    "docs/callbacks.md": Page((*TORCH, "keras", "tensorflow"), setup=callbacks_page, after=callbacks_were_heard),
    "docs/configuration.md": Page(after=settings_are_read),
    "docs/conformance.md": Page(slow=True, setup=mine),
    "docs/data.md": Page(TORCH),
    "docs/evaluation.md": Page(TORCH, setup=evaluation_page, after=slices_were_shown),
    "docs/indexes.md": Page((*TORCH, "matplotlib"), setup=bundle_to_serve, after=index_was_kept),
    "docs/grow.md": Page(TORCH, setup=grow_page, after=nobody_retired_came_back),
    "docs/migration.md": Page((*TORCH, *TENSORFLOW, "keras"), slow=True, after=bundle_serves),
    "docs/monitor.md": Page(("fastapi", *TORCH), setup=a_log),
    "docs/own-loop.md": Page(("keras",), setup=keras_readme),
    "docs/recipes.md": Page(TORCH),
    "docs/write-a-feature.md": Page(("torch",)),
    "docs/search-engines.md": Page(TORCH, setup=bundle_to_serve, after=the_file_answers),
    "docs/serve.md": Page(("fastapi", "torch", "recs_core_torch"), setup=bundle_to_serve, after=service_answers),
    "docs/tf-serving.md": Page(TENSORFLOW, setup=saved_bundle, after=served_as_asked),
    "docs/troubleshooting.md": Page(setup=a_new_item),
    "docs/write-a-backend.md": Page(followed_by=BY_DOING_IT),
    "docs/write-an-index.md": Page(followed_by=BY_DOING_IT),
    "examples/numpy_backend_plugin/README.md": Page(setup=numpy_plugin),
    "plugins/faiss/README.md": Page((*TORCH, "recs_core_faiss"), setup=model_to_index),
    "plugins/qdrant/README.md": Page(("recs_core_qdrant", "qdrant_client", *TORCH), setup=bundle_to_serve),
    "plugins/tensorflow/README.md": Page(TENSORFLOW, setup=tensorflow_readme),
    "plugins/tensorflow/src/recs_core_tensorflow/data.py": Page(TENSORFLOW, setup=tensorflow_loop),
    "plugins/tensorflow/src/recs_core_tensorflow/environment.py": Page(TENSORFLOW),
    "plugins/torch/README.md": Page(
        (*TORCH, "accelerate", "lightning", "onnx", "onnxscript", "onnxruntime"),
        slow=True,
        setup=torch_readme,
        after=a_graph_answers_as_the_bundle,
    ),
    "plugins/torch/src/recs_core_torch/data.py": Page(TORCH, setup=torch_loop),
    "recs_core/bundle/card.py": Page(
        slow=True, setup=cards, made=("bundle/README.md", "said/README.md", "unsaid/README.md")
    ),
    "recs_core/keras_backend/__init__.py": Page(("keras",), setup=keras_loop),
    "recs_core/templates/shared/README.md.template": Page(followed_by=BY_DOING_IT),
}
