"""The routes that ask the model: one handler for all of them, from the bytes of a request to those of its answer."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from itertools import count
from secrets import token_hex
from typing import Any, get_type_hints

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


TOLD = "recs_core.told"
"""Where the scope of a request has what its line says beside its status and its time."""

PROBES = ("/livez", "/readyz")
"""Asked every few seconds, for as long as the process lives: they have no line."""


class Front:
    """Answers the questions itself and leaves all else to `app`, which declares them for the OpenAPI: what FastAPI does
    with each request takes longer than the answer. Whoever answers, the answer has an id and the log a line."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self.app, self.service = app, service
        self._routes = {getattr(route, "path", None) for route in app.routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # where it is mounted
        request_id = request_id_of(headers)
        schema = _SCHEMAS.get(path) if scope["method"] == "POST" else None

        async def answered(message: Message) -> None:
            begins = message["type"] == "http.response.start"
            if begins and not any(name == b"x-request-id" for name, _ in message["headers"]):  # else that beside has
                spent = time.perf_counter() - start
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-compute-time", f"{spent:.6f}".encode()),
                ]
                if schema is not None:
                    self.service.metrics.answered(path, scope.get(TOLD, {}).get("error_type", "ok"), spent)
                self._tell(path, request_id, message["status"], spent, scope.get(TOLD, {}))
            await send(message)

        answer: ASGIApp = self.app
        if self.service.settings.local and not auth.names_this_machine(headers.get("host", "")):
            answer = refusal(
                scope, Problem(421, "OtherHost", "only requests to this machine by its own name are answered")
            )
        elif schema is not None:
            answer = await _handled(self.service, scope, path, schema, headers, receive, request_id)
        await answer(scope, receive, answered)

    def _tell(self, path: str, request_id: str, status: int, spent: float, told: dict[str, Any]) -> None:
        """The line of a request. A path that is no route of ours may hold an id, so it stays unsaid."""
        if self.service.settings.log_requests and path not in PROBES:
            route = path if path in self._routes else None
            tell(logging.INFO, "request", request=request_id, route=route, status=status, ms=_ms(spent), **told)


def refusal(scope: Scope, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The answer that says so, and in the request's line its type and field."""
    scope[TOLD] = {"error_type": problem.error_type, "field": problem.field}
    return problem.response(headers)


async def _handled(
    service: Service,
    scope: Scope,
    path: str,
    schema: type[Asked],
    headers: dict[str, str],
    receive: Receive,
    request_id: str,
) -> Response:
    try:
        auth.check(headers, service.settings.api_key)
        asks = schema.model_validate_json(await body_of(receive, headers, service.settings.max_body))
        reply, waiting = await _asked(service, asks, receive)
        told = {"bundle": _short(reply["bundle"]), "batch": waiting.batch, "queued_ms": _ms(waiting.waited)}
        if isinstance(asks, Recommend) and service.settings.log_requests:
            told |= told_of(asks, reply["answers"], service.settings.log_answers)
        scope[TOLD] = told
        return json_response(reply)
    except Exception as error:
        problem = problem_of(error)
        if problem.status == 500:
            tell(logging.ERROR, "bug", trace=error, request=request_id, route=path)
        return refusal(scope, problem)


async def _asked(service: Service, asks: Asked, receive: Receive) -> tuple[dict[str, Any], Waiting]:
    """The reply of the batcher; a question whose client goes before its turn is dropped."""
    waiting = service.put(asks)
    watch = None if waiting.at_once else asyncio.create_task(_until_gone(receive, waiting.future))
    try:
        reply = await waiting.future
    finally:
        if watch is not None:
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
