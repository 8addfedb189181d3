"""The OpenAPI is whole, its examples are answered, and nothing that it lets through is answered 5xx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from starlette.testclient import TestClient

from recs_core.service import asgi
from recs_core.service.routes import QUESTIONS
from tests.service import shops


def test_every_question_has_examples_and_every_refusal_one_shape(client: TestClient) -> None:
    said = client.get("/openapi.json").json()
    assert {f"/{endpoint.__name__}" for endpoint in QUESTIONS} < set(said["paths"])
    for endpoint in QUESTIONS:
        post = said["paths"][f"/{endpoint.__name__}"]["post"]
        name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = said["components"]["schemas"][name]
        assert schema["examples"]
        assert schema["additionalProperties"] is False
        for status, response in post["responses"].items():
            if status != "200":
                assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")


@pytest.mark.slow
def test_no_request_is_answered_5xx(additive: Path) -> None:
    """schemathesis: what the schema allows, and what it does not."""
    app = asgi(additive, admin=True)
    with TestClient(app) as client:
        shops.wait_until(lambda: client.get("/readyz").status_code == 200)
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        for result in schema.get_all_operations():
            _try(result.ok(), client)


def _try(operation: Any, client: TestClient) -> None:
    modes = list(schemathesis.GenerationMode)
    from hypothesis import given, strategies

    cases = strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=cases)
    def ask(case: Any) -> None:
        reply = case.call(session=client)
        assert reply.status_code < 500, (case.body, reply.text)
        if reply.status_code >= 400:
            told = reply.json()
            assert set(told) == {"error", "error_type", "field"}, told

    ask()
