"""A refusal names the field at fault, and says in our words what it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import recs_core as recs
from recs_core.reference.backend import OracleBackend
from recs_core.service.schemas import SCHEMAS, Asked
from recs_core.service.settings import MAX_LISTED
from tests.service import shops


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Its model reads a device and a length of a request, and an age of a query."""
    n = np.arange(120)
    data = recs.Interactions.from_table(
        {
            "user": 100 + n % 20,
            "item": [f"i{k % 30}" for k in n],
            "dev": [("ios", "web")[k % 2] for k in n],
            "size": n * 1.0,
        },
        query="user",
        candidate="item",
        queries={"user": 100 + np.arange(20), "age": np.linspace(18.0, 80.0, 20)},
        candidates={"item": [f"i{k}" for k in range(30)], "price": np.linspace(1.0, 9.0, 30)},
    )
    read = [recs.Categorical("user", dim=4), recs.Numeric("age"), recs.Categorical("dev", dim=4), recs.Numeric("size")]
    model = recs.TwoTower(
        query=recs.TowerSpec([recs.History("item", dim=4), *read]),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=4), recs.Numeric("price")], layers=[14]),
        training=recs.TrainingSpec(epochs=1, batch_size=64),
        backend=OracleBackend(),
    )
    model.fit(data, progress=False)
    bundle = model.save(tmp_path_factory.mktemp("context") / "bundle")
    with shops.ready(bundle, admin=True) as client:
        yield client


OF = {"context": {"dev": ["ios"], "size": [1.0]}}
ONE = {"queries": [100], **OF}


def refused(client: TestClient, path: str, body: Any) -> tuple[int, Any, str]:
    told = client.post(path, json=body)
    return told.status_code, told.json().get("field"), told.json().get("error")


@pytest.mark.parametrize("path", ["/recommend", "/explain"])
def test_what_the_others_are_measured_by_is_answered(client: TestClient, path: str) -> None:
    assert client.post(path, json=ONE if path == "/recommend" else {"query": 100, "candidate": "i1", **OF}).is_success


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/recommend", {**ONE, "queries": [7], "unknown": "error"}, "queries"),
        ("/recommend", {**ONE, "queries": ["u"]}, "queries"),
        ("/recommend", {"queries": [100]}, "context"),
        ("/recommend", {**ONE, "context": {"dev": ["ios"]}}, "context"),
        ("/recommend", {**ONE, "context": {"dev": [3], "size": [1.0]}}, "context"),
        ("/recommend", {**ONE, "context": {"dev": ["ios"], "size": [None]}}, "context"),
        ("/recommend", {**ONE, "context": {"dev": ["ios"], "size": ["long"]}}, "context"),
        ("/recommend", {**ONE, "context": {"dev": ["ios", "ios"], "size": [1.0, 1.0]}}, "context"),
        ("/recommend", {**ONE, "context": {"dev": ["ios"], "size": [1.0, 1.0]}}, "context"),
        ("/recommend", {**ONE, "at": "2026-01-01"}, "at"),
        ("/recommend", {**ONE, "history": [["i1"]], "history_at": [[1.0]]}, "history_at"),
        ("/recommend", {**ONE, "history": [[3]]}, "history"),
        ("/recommend", {**ONE, "history": [["i1"], ["i2"]]}, "history"),
        ("/recommend", {**ONE, "features": {"age": [30.0, 40.0]}}, "features"),
        ("/recommend", {**ONE, "features": {"age": [None]}}, "features"),
        ("/recommend", {**ONE, "features": {"age": ["old"]}}, "features"),
        ("/recommend", {**ONE, "features": {"user": [100]}}, "features"),
        ("/recommend", {**ONE, "context": {**OF["context"], "devise": ["web"]}}, "context"),
        ("/recommend", {**ONE, "features": {"age": [30.0], "aeg": [40.0]}}, "features"),
        ("/recommend", {**ONE, "exclude": [["i1"], ["i2"]]}, "exclude"),
        ("/recommend", {**ONE, "exclude": [[7]]}, "exclude"),
        ("/recommend", {**ONE, "allow": ["none"]}, "allow"),
        ("/recommend", {**ONE, "where": "cost < 3"}, "where"),
        ("/recommend", {**ONE, "where": "price < 'a'"}, "where"),
        ("/recommend", {**ONE, "pool": 100}, "pool"),
        ("/recommend", {**ONE, "pool": 3, "diversity": 0.5}, "pool"),
        ("/recommend", OF, None),
        ("/explain", {"query": "u", "candidate": "i1", **OF}, "query"),
        ("/explain", {"query": 100, "candidate": "none", **OF}, "candidate"),
        ("/explain", {"query": 100, "candidate": 3, **OF}, "candidate"),
        ("/explain", {"query": 100, "candidate": "i1"}, "context"),
        ("/explain", {"query": 100, "candidate": "i1", "history": [3], **OF}, "history"),
        ("/explain", {"query": 100, "candidate": "i1", "features": {"age": ["old"]}, **OF}, "features"),
        ("/explain", {"query": 100, "candidate": "i1", "features": {"age": [30.0], "aeg": [40.0]}, **OF}, "features"),
        ("/similar", {"candidates": ["none"]}, "candidates"),
        ("/similar", {"candidates": ["i1"], "allow": ["none"]}, "allow"),
        ("/history", {"query": "u"}, "query"),
        ("/admin/candidates", {"candidates": {"item": ["i1"], "price": ["dear"]}}, "candidates"),
        ("/admin/candidates", {"candidates": {"item": ["i1"], "price": [None]}}, "candidates"),
        ("/admin/candidates", {"candidates": {"item": [7], "price": [1.0]}}, "candidates"),
        ("/admin/candidates", {"candidates": {"item": ["i1"], "price": [1.0]}, "retire": ["i1"]}, "retire"),
        ("/admin/candidates", {"retire": [7]}, "retire"),
    ],
)
def test_the_field_at_fault_is_named(client: TestClient, path: str, body: Any, field: str | None) -> None:
    status, named, said = refused(client, path, body)
    assert (status, named) == (422, field), said
    assert not re.search(r"\w=", said), "that is Python's"


WRONG = [True, 1.5, 10**30, "x" * 30_000, [], {}, [[]], [[[]]], [None], [True], ["x" * 30_000], [["x" * 30_000]]]
WRONG += [{"a": 1}, {"a": [{}]}, {"a": [["x" * 30_000]]}, {"a": ["x" * 30_000]}, ["i1"] * (MAX_LISTED + 1)]
PYDANTIC = ("input", "should", "valid", "constrained", "literal", "union", "nullable", "dict", "instance")


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_what_a_field_takes_is_said_in_our_words(client: TestClient, schema: type[Asked]) -> None:
    """Whatever else it is given; what may be is for the model to refuse."""
    path = "/admin/candidates" if schema.__name__ == "Update" else f"/{schema.__name__.lower()}"
    told = 0
    for name, field in schema.model_fields.items():
        for value in WRONG:
            body = {"Explain": {"candidate": "i1"}, "Similar": {"candidates": ["i1"]}}.get(schema.__name__, {})
            status, named, said = refused(client, path, {**body, name: value})
            if status in (413, 422) and said.startswith(f"{name}: expected "):
                told += 1
                assert named == name
                assert field.description in said
            assert said is None or not any(word in said.lower() for word in PYDANTIC), said
    assert told > 3 * len(schema.model_fields)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (
            "/recommend",
            {"queries": [100, True]},
            "queries: expected 1 to 32 ids of queries, each an integer of 64 bits or text of at most 1,000 characters; "
            "row 1 is something else",
        ),
        (
            "/recommend",
            {**ONE, "at": True},
            "at: expected when the request is, by default now: a time as text of at most 1,000 characters or as a "
            "finite number of seconds",
        ),
        ("/recommend", {**ONE, "k": 0}, "k: expected the number of candidates for each, an integer from 1 to 1,000"),
        (
            "/recommend",
            {"queries": [100], "context": {"dev": "ios", "size": 1.0}},
            'context: expected what is known of each request: "blank" for nothing, or an object of columns by name, '
            "each a list of at most 32 values: true, false, null, finite numbers, text of at most 1,000 characters, or "
            "lists of these",
        ),
        (
            "/explain",
            {},
            "candidate: expected one candidate's id, an integer of 64 bits or text of at most 1,000 characters; it is "
            "missing",
        ),
        ("/recommend", [], "the body is no object of fields; /openapi.json has all of them"),
    ],
)
def test_refusals_in_full(client: TestClient, path: str, body: Any, said: str) -> None:
    assert refused(client, path, body)[2] == said
