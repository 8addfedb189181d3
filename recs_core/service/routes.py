"""The routes that ask the model: one handler for all of them, from the bytes of a request to those of its answer."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from itertools import count
from secrets import token_hex
from typing import Any, get_type_hints

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recs_core.service import auth
from recs_core.service.batching import Waiting
from recs_core.service.logs import tell, told_of
from recs_core.service.problems import Problem, json_response, problem_of, too_large
from recs_core.service.schemas import (
    Answers,
    Asked,
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

_PROCESS, _NUMBERS = token_hex(4), count(1)
REQUEST_ID = re.compile(r"[\w.:/+=-]{1,100}", flags=re.ASCII)
SLOW_BODY = 10.0
"""Seconds within which a body must be here."""


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
_SCHEMAS = {f"/{endpoint.__name__}": get_type_hints(endpoint)["body"] for endpoint in QUESTIONS}


class Front:
    """Answers the questions itself and leaves all else to `app`, which declares them for the OpenAPI: what FastAPI does
    with each request takes longer than the answer."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI."""
        response = None
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            path = scope["path"].removeprefix(scope.get("root_path", ""))  # where it is mounted
            schema = _SCHEMAS.get(path) if scope["method"] == "POST" else None
            if self.service.settings.local and not auth.names_this_machine(headers.get("host", "")):
                response = Problem(
                    421, "OtherHost", "only requests to this machine by its own name are answered"
                ).response()
            elif schema is not None:
                response = await _handled(self.service, path, schema, headers, receive)
        await (response or self.app)(scope, receive, send)


async def _handled(
    service: Service, path: str, schema: type[Asked], headers: dict[str, str], receive: Receive
) -> Response:
    start = time.perf_counter()
    told: dict[str, Any] = {}
    outcome, request_id = "ok", request_id_of(headers)
    try:
        auth.check(headers, service.settings.api_key)
        asks = schema.model_validate_json(await body_of(receive, headers, service.settings.max_body))
        reply, waiting = await _asked(service, asks, receive)
        told = {"bundle": _short(reply["bundle"]), "batch": waiting.batch, "queued_ms": _ms(waiting.waited)}
        if isinstance(asks, Recommend) and service.settings.log_requests:
            told |= told_of(asks, reply["answers"], service.settings.log_answers)
        response = json_response(reply)
    except Exception as error:
        problem = problem_of(error)
        outcome, response = problem.error_type, problem.response()
        told = {"error_type": outcome, "field": problem.field}
        if problem.status == 500:
            tell(logging.ERROR, "bug", trace=error, request=request_id, route=path)
    spent = time.perf_counter() - start
    response.raw_headers += [
        (b"x-request-id", request_id.encode()),
        (b"x-compute-time", f"{spent:.6f}".encode()),
    ]
    service.metrics.answered(path, outcome, spent)
    if service.settings.log_requests:
        tell(
            logging.INFO, "request", request=request_id, route=path, status=response.status_code, ms=_ms(spent), **told
        )
    return response


async def _asked(service: Service, asks: Asked, receive: Receive) -> tuple[dict[str, Any], Waiting]:
    """The reply of the batcher; a question whose client goes before its turn is dropped."""
    waiting = service.put(asks)
    watch = asyncio.create_task(_until_gone(receive, waiting.future))
    try:
        reply = await waiting.future
    finally:
        watch.cancel()
    service.metrics.queued.observe(waiting.waited)
    return reply, waiting


def _short(digest: str) -> str:
    """As a line names it: how the bundle's digest begins, and the whole of that of the changes since."""
    bundle, plus, changes = digest.partition("+")
    return bundle[:12] + plus + changes


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def request_id_of(headers: dict[str, str]) -> str:
    """The caller's, where it is one that may stand in a log; else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else _new_id()


def _new_id() -> str:
    return f"{_PROCESS}-{next(_NUMBERS):x}"


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
