"""The ASGI application: the questions, and what operators ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from recs_core.service import auth
from recs_core.service.problems import Problem, json_response, problem_of
from recs_core.service.routes import QUESTIONS, Front, body_of, refusal
from recs_core.service.schemas import Asked, Error, Reload, Update
from recs_core.service.service import Service
from recs_core.service.settings import Settings
from recs_core.service.stated import facts
from recs_core.version import __version__

PAGE = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
ONLY_OURS = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"  # fmt: skip  # noqa: E501

Body = TypeVar("Body", bound=Asked)

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body is no JSON."},
    401: {"model": Error, "description": "The key is missing or another."},
    408: {"model": Error, "description": "The body does not come."},
    413: {"model": Error, "description": "The body, or a list of queries, is too long."},
    415: {"model": Error, "description": "The body does not say that it is JSON."},
    422: {"model": Error, "description": "What is asked cannot be answered: the field and the reason."},
    429: {"model": Error, "description": "As many wait as may; ask again."},
    503: {"model": Error, "description": "No bundle serves yet, or the request waited too long."},
}


def _takes(schema: type[Asked]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema.model_json_schema()}}}}


def application(settings: Settings) -> Front:
    """An application of its own, with a service of its own."""
    beside = None
    if settings.beside is not None:
        beside = application(replace(settings, bundle=settings.beside, beside=None, page=False, admin=False))
    service = Service(settings, None if beside is None else beside.service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="recs-core",
        version=__version__,
        description="Recommendations from a bundle.",
        lifespan=lifespan,
        docs_url=None,  # whose scripts come from elsewhere
        redoc_url=None,
    )
    for endpoint in QUESTIONS:
        app.post(f"/{endpoint.__name__}", responses=REFUSALS)(endpoint)
    _add_operations(app, service)
    if settings.page:
        _add_page(app)
    if beside is not None:
        app.mount("/beside", beside)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Problem, lambda request, problem: refusal(request.scope, problem))
    return Front(app, service)


def _add_operations(app: FastAPI, service: Service) -> None:
    def allowed(request: Request) -> None:
        auth.check(dict(request.headers), service.settings.api_key)

    @app.get("/livez", responses={200: {"description": "The process answers."}})
    async def livez() -> dict[str, str]:
        """Whether the process answers. It never asks the bundle."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"model": Error}})
    async def readyz() -> dict[str, str]:
        """Whether a verified bundle serves, and none of it is about to end."""
        service.start()
        if service.draining:
            raise Problem(503, "Draining", "the service is about to end")
        return {"status": "ready", "bundle": service.serving.now.digest}

    @app.get("/info", responses={401: {"model": Error}, 503: {"model": Error}})
    async def info(request: Request) -> Response:
        """What serves: the bundle, what it reads of a request, what can be filtered by, and the limits."""
        allowed(request)
        service.start()
        return json_response(facts(service))

    @app.get(
        "/metrics", responses={200: {"content": {"text/plain": {}}}, 401: {"model": Error}}, response_class=Response
    )
    async def metrics(request: Request) -> Response:
        """For Prometheus."""
        allowed(request)
        text = service.metrics.text(len(service.batcher))
        return Response(text, media_type="text/plain; version=0.0.4")

    async def asked(request: Request, schema: type[Body]) -> Body:
        allowed(request)
        body = await body_of(request.receive, dict(request.headers), service.settings.max_body)
        try:
            return schema.model_validate_json(body)
        except ValidationError as error:
            raise problem_of(error) from error

    if service.settings.admin:

        @app.post("/admin/reload", responses={**REFUSALS, 409: {"model": Error}}, openapi_extra=_takes(Reload))
        async def reload(request: Request) -> dict[str, str]:
            """Serve what lies at the bundle's path now; where it cannot be served, what served before goes on."""
            await asked(request, Reload)
            served = await service.reload()
            service.reloaded()
            return {"bundle": served.digest}

        @app.post("/admin/candidates", responses={**REFUSALS, 409: {"model": Error}}, openapi_extra=_takes(Update))
        async def candidates(request: Request) -> dict[str, Any]:
            """Change, add and retire candidates of what serves now, until the next reload."""
            served = await service.update(await asked(request, Update))
            known = len(served.model.schema.candidates)
            return {"bundle": served.digest, "candidates": known, "retired": len(served.model.catalog.retired)}


def _add_page(app: FastAPI) -> None:
    def shown(name: str, kind: str) -> Any:
        text = (files("recs_core.service") / "page" / name).read_bytes()
        headers = {
            "content-security-policy": ONLY_OURS,
            "x-content-type-options": "nosniff",
            "cache-control": "no-cache",
        }

        async def page() -> Response:
            return Response(text, media_type=kind, headers=headers)

        return page

    for path, (name, kind) in PAGE.items():
        app.add_api_route(f"/{path}", shown(name, kind), include_in_schema=False)


async def _refused(request: Request, error: Any) -> Response:
    """What Starlette refuses by itself, in our shape."""
    words = {404: "NotFound", 405: "MethodNotAllowed"}
    what = {
        404: "there is nothing here; /openapi.json has all that is",
        405: "ask with another method; /openapi.json has it",
    }
    status = error.status_code
    problem = Problem(status, words.get(status, "Refused"), what.get(status, str(error.detail)))
    return refusal(request.scope, problem, dict(error.headers or {}))
