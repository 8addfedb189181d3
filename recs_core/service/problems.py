"""What a request is told that cannot be answered: a status and one shape of JSON, never a traceback."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from recs_core.contract.errors import DataError, RecsError, UnsupportedFeature
from recs_core.contract.messages import one_line
from recs_core.service.schemas import SCHEMAS, Recommend

_ARGUMENT = re.compile(rf"\b({'|'.join(Recommend.model_fields)})=(\S?)")
"""As the library names what it is called with."""


class Problem(Exception):
    """Why a request is refused. `status`: of HTTP; `error_type`: one word for programs; `field`: what of it is at
    fault, or None; `retry`: seconds after which to ask again, or None."""

    def __init__(
        self, status: int, error_type: str, error: str, field: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(error)
        self.status, self.error_type, self.error, self.field, self.retry = status, error_type, error, field, retry

    def response(self, headers: dict[str, str] | None = None) -> Response:
        """The answer that says so."""
        said = {"error": self.error, "error_type": self.error_type, "field": self.field}
        headers = dict(headers or {})
        if self.retry is not None:
            headers["retry-after"] = str(self.retry)
        return json_response(said, self.status, headers)


def json_response(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON; numbers that JSON has no word for become null."""
    return Response(to_json(data, inf_nan_mode="null"), status, headers, "application/json")


def problem_of(error: BaseException) -> Problem:
    """Any error as what its request is told. One that is not ours is a bug: its words stay in the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        return _invalid(error)
    if isinstance(error, (DataError, UnsupportedFeature)):
        return Problem(422, type(error).__name__, _as_fields(str(error)), getattr(error, "argument", None))
    if isinstance(error, RecsError):
        return Problem(503, type(error).__name__, one_line(error))
    return Problem(500, "InternalError", "this is a bug of the service; its log has the request id and the reason")


def _as_fields(said: str) -> str:
    """With names of fields in place of Python's arguments: `history=` as history, `unknown='popular'` as unknown
    'popular'."""
    return _ARGUMENT.sub(lambda found: f"{found[1]}{'' if found[2] in ' ,;.:' else ' '}{found[2]}", said)


def full(waiting: int) -> Problem:
    """There is no room for one more."""
    return Problem(429, "Full", f"{waiting} requests wait already; ask again in a second", retry=1)


def late(seconds: float) -> Problem:
    """It has waited too long."""
    return Problem(503, "TooLate", f"waited {seconds:g} s without being answered; ask again later", retry=1)


def too_large(most: int) -> Problem:
    """The body is over the limit."""
    return Problem(413, "TooLarge", f"the body is larger than {most:,} bytes, the most that is read")


def _invalid(error: ValidationError) -> Problem:
    """The first of what is wrong with a body, in one line, and the field that it is in."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return Problem(400, "InvalidJson", f"the body is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if not first["loc"]:
        return Problem(422, "InvalidRequest", "the body is no object of fields; /openapi.json has all of them")
    field, *place = first["loc"]
    if first["type"] == "extra_forbidden":
        return Problem(422, "InvalidRequest", f"there is no field {field!r}; /openapi.json has all of them", str(field))
    takes = SCHEMAS[error.title].model_fields[str(field)].description
    rows = [f"; row {part} is something else" for part in place if isinstance(part, int)]
    missing = "; it is missing" if first["type"] == "missing" else ""
    said = f"{field}: expected {takes}{missing}{''.join(rows[:1])}"
    if first["type"] == "too_long" and not place:
        return Problem(413, "TooMany", said, str(field))
    return Problem(422, "InvalidRequest", said, str(field))
