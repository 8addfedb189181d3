"""The routes that ask the model: one handler for all of them, from the bytes of a request to those of its answer."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive

from recs_core.service import auth
from recs_core.service.logs import tell
from recs_core.service.problems import Problem, json_response, problem_of, too_large
from recs_core.service.schemas import (
    Answers,
    Explain,
    Explained,
    History,
    Known,
    Past,
    Queries,
    Recommend,
    Similar,
    Similars,
)
from recs_core.service.service import Service

REQUEST_ID = re.compile(r"[\w.:/+=-]{1,100}", flags=re.ASCII)
SLOW_BODY = 10.0
"""Seconds within which a body must be here."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Question(APIRoute):
    """A route that is declared to FastAPI as any other, for the OpenAPI, and answered by the batcher: what FastAPI does
    with each request takes longer than the answer."""

    def get_route_handler(self) -> Handler:
        """The handler, in place of FastAPI's own."""
        schema = get_type_hints(self.endpoint)["body"]
        path = self.path

        async def handle(request: Request) -> Response:
            return await _handled(request.app.state.service, path, schema, request)

        return handle


def recommend(body: Recommend) -> Answers:
    """The best candidates of each query."""
    raise NotImplementedError


def similar(body: Similar) -> Similars:
    """The candidates nearest to each candidate, by cosine of their embeddings."""
    raise NotImplementedError


def explain(body: Explain) -> Explained:
    """The parts that a score is the sum of, where the query tower has no layers."""
    raise NotImplementedError


def history(body: History) -> Past:
    """What training saw of a query."""
    raise NotImplementedError


def queries(body: Queries) -> Known:
    """Queries that training saw."""
    raise NotImplementedError


QUESTIONS = (recommend, similar, explain, history, queries)


async def _handled(service: Service, path: str, schema: Any, request: Request) -> Response:
    start = time.perf_counter()
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    told: dict[str, Any] = {}
    outcome, level = "ok", logging.INFO
    request_id = request_id_of(headers)
    try:
        auth.check(headers, service.settings.api_key)
        asks = schema.model_validate_json(await body_of(request.receive, headers, service.settings.max_body))
        waiting = service.put(asks)
        watch = asyncio.create_task(_until_gone(request.receive, waiting.future))
        try:
            reply = await waiting.future
        finally:
            watch.cancel()
        service.metrics.queued.observe(waiting.waited)
        told = {"bundle": reply["bundle"][:12], "batch": waiting.batch, "queued_ms": _ms(waiting.waited)}
        response = json_response(reply)
    except Exception as error:
        problem = problem_of(error)
        outcome = problem.error_type
        response = problem.response()
        told = {"error_type": outcome, "field": problem.field}
        if problem.status == 500:
            tell(logging.ERROR, "bug", trace=error, request=request_id, route=path)
    spent = time.perf_counter() - start
    response.headers["x-request-id"] = request_id
    response.headers["x-compute-time"] = f"{spent:.6f}"
    service.metrics.answered(path, outcome, spent)
    if service.settings.log_requests:
        tell(level, "request", request=request_id, route=path, status=response.status_code, ms=_ms(spent), **told)
    return response


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def request_id_of(headers: dict[str, str]) -> str:
    """The caller's, where it is one that may stand in a log; else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else _new_id()


def _new_id() -> str:
    from secrets import token_hex

    return token_hex(8)


async def body_of(receive: Receive, headers: dict[str, str], most: int) -> bytes:
    """The body. Raises `Problem`: 415 unless it is JSON, 413 for one over the limit, 408 for one that does not come."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a page of another site may send without asking is none
        raise Problem(415, "NotJson", "send JSON, with content-type: application/json")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_large(most)
    message = await _message(receive)
    if not message.get("more_body"):
        body = message.get("body", b"")
        if len(body) > most:
            raise too_large(most)
        return body
    try:
        async with asyncio.timeout(SLOW_BODY):
            return await _whole(receive, message, most)
    except TimeoutError:
        raise Problem(408, "TooSlow", f"the body was not here within {SLOW_BODY:g} s") from None


async def _whole(receive: Receive, message: Any, most: int) -> bytes:
    parts, size = [message.get("body", b"")], len(message.get("body", b""))
    while message.get("more_body"):
        message = await _message(receive)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise too_large(most)
    return b"".join(parts)


async def _message(receive: Receive) -> Any:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Problem(499, "Gone", "the client is gone")
    return message


async def _until_gone(receive: Receive, future: asyncio.Future[Any]) -> None:
    """A question whose client is gone is no longer worth an answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not future.done():
        future.set_exception(Problem(499, "Gone", "the client is gone"))
