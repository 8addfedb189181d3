"""What must hold when what a page shows is done: each is given all names of the page, and what it printed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import recs_core as recs

CUSTOMER = "12347"  # whom the pages ask about


def readme_holds(names: dict[str, Any], printed: str) -> None:
    """Trained in torch, loaded in TensorFlow and by NumPy: one list; what is declared last trains."""
    assert float(printed.split(maxsplit=1)[0]) > 0.12  # recall@20, which the quality page has
    model = recs.load("bundle", backend="torch")
    for other in ("tf", "bare"):
        asked = {"queries": [CUSTOMER], "k": 5, "exclude": "seen"}
        np.testing.assert_array_equal(names[other].recommend(**asked).ids, model.recommend(**asked).ids)
    declared = names["model"]
    declared.fit(names["train"].take(np.arange(5000)), epochs=1, progress=False)
    assert declared.backend_name == "keras[jax]"


def slices_were_shown(names: dict[str, Any], printed: str) -> None:
    """The words of the page are those of the table."""
    for word in ("cold queries", "new candidates", "new: no training row", "recall@20"):
        assert word in printed, word


def callbacks_were_heard(names: dict[str, Any], printed: str) -> None:
    """Steps, epochs with metrics, two lists, and no stop within five minutes."""
    assert "epoch 2, step 10: loss " in printed and "epoch 2: loss " in printed and "'recall@20'" in printed
    assert len(names["watches"].lists) == 2 and printed.rstrip().endswith("finished")


def nobody_retired_came_back(names: dict[str, Any], printed: str) -> None:
    """Neither of the two that the page retires."""
    for model, gone in ((names["model"], {"85123A"}), (names["bare"], {"85123A", "22423"})):
        assert not gone & {*model.recommend([CUSTOMER], k=9999).ids[0]}


def served_as_asked(names: dict[str, Any], printed: str) -> None:
    """The graph recommends what the model recommends to the same history."""
    answers, past = names["answers"], [["85123A", "22423"]]
    expected = names["model"].recommend(history=past, exclude=past, k=5)
    assert [id_.decode() for id_ in answers["ids"].numpy()[0]] == expected.ids[0].tolist()
    np.testing.assert_allclose(answers["scores"], expected.scores, rtol=1e-4)


def bundle_serves(names: dict[str, Any], printed: str) -> None:
    """What was declared for TFRS is served without it; every list that the page printed holds candidates."""
    asked = {"queries": names["users"][:3], "k": 5}
    ids = recs.load("bundle", runtime="numpy").recommend(**asked).ids
    np.testing.assert_array_equal(ids, recs.load("bundle", backend="torch").recommend(**asked).ids)
    listed = set(re.findall(r"'(c\d+)'", printed))
    assert listed and listed <= set(names["items"])


def settings_are_read(names: dict[str, Any], printed: str) -> None:
    """The files that the page shows choose what they say."""
    from recs_core.config import select

    assert str(select()) == "torch"
    os.environ["RECS_CONFIG"] = "recs.toml"
    assert str(select()) == "keras[jax]"


def a_graph_answers_as_the_bundle(names: dict[str, Any], printed: str) -> None:
    """What the exported tower makes of the page's arrays is what NumPy makes of the ids."""
    asked = {"history": [["85123A", "22423"], []]}
    np.testing.assert_allclose(names["vectors"], names["known"].encode_query(**asked), rtol=1e-4, atol=1e-5)


def dask_answers_as_one_machine(names: dict[str, Any], printed: str) -> None:
    """The files that Dask wrote, in the order of the queries, against the model's own answers and the command's."""
    found = pa.concat_tables(pq.read_table(f"answers/part.{number}.parquet") for number in range(2))
    customers = pq.read_table("queries/a.parquet")["customer_id"].to_pylist()
    customers += pq.read_table("queries/b.parquet")["customer_id"].to_pylist()
    due = names["model"].recommend(customers, 100, exclude="seen").ids
    assert found["customer_id"].to_pylist() == customers
    assert found["item_id"].to_pylist() == due.tolist()
    assert pq.read_table("answers.parquet")["item_id"].to_pylist() == due[:20].tolist()
    assert names["few"]["item_id"].to_pylist() == due[:3].tolist()


def index_was_kept(names: dict[str, Any], printed: str) -> None:
    """The bundle holds the index that was built, and the figure is there."""
    assert recs.bundle.info("bundle").stated.index.spec == "int8:rescore=20"
    assert Path("tune.svg").read_text(encoding="utf-8").startswith("<svg")


def service_answers(names: dict[str, Any], printed: str) -> None:
    """The application that the page mounts answers as the library does."""
    from starlette.testclient import TestClient

    client = TestClient(names["app"])
    with client:
        while client.get("/recs/readyz").status_code == 503:
            pass
        told = client.post("/recs/recommend", json={"queries": [CUSTOMER], "k": 3}).json()
    found = recs.load("bundle", runtime="numpy").recommend([CUSTOMER], k=3)
    assert [candidate["id"] for candidate in told["answers"][0]["candidates"]] == found.ids[0].tolist()
    names["service"].service.close()


def the_file_answers(names: dict[str, Any], printed: str) -> None:
    """By the file and the page's query vector alone: what the model recommends."""
    table, facts = names["file"].read(), names["facts"]
    scores = np.array(table[facts["vector"]].to_pylist(), np.float32) @ names["asked"]
    ids = np.array(table[facts["id"]].to_pylist())
    left = ~np.isin(ids, names["seen"])
    due = names["served"].recommend([CUSTOMER], k=5, exclude="seen")
    assert names["seen"] and ids[left][np.argsort(-scores[left])[:5]].tolist() == due.ids[0].tolist()
