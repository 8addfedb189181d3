"""How a service is run, and the most that a request may ask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from recs_core.contract.errors import ConfigError

MAX_QUERIES = 32
"""Queries, or candidates, that one request may name."""

MAX_K = 1000
"""The largest k, and the largest pool ten times it."""

MAX_LISTED = 10_000
"""Ids of one history, one list of exclusions or an allow-list."""

MAX_CONDITION = 10_000
"""Characters of `where`."""

MAX_ID = 1_000
"""Characters of an id."""


def is_finite(value: object) -> bool:
    """Whether this is a number, and neither NaN nor infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Settings:
    """How a service is run.

    `bundle`: the folder that is served; `beside`: a second one, for the page to compare it with. `index`: the spec of
    an installed index; by default the one that the bundle holds, or every candidate is scored. `unknown`: how a query
    that training never saw is answered where the request does not say. `api_key`: what every request must bring, or
    None for no key. `local`: only requests that name this machine as their host are answered. `admin`: whether
    `/admin/reload` and `/admin/candidates` are there. `page`: whether the page at `/` is. `waiting`: requests that may
    wait; one more is told 429. `deadline`: seconds that one may wait. `max_body`: bytes of a request. `log_requests`: a
    line for each; `log_answers`: with what was recommended, of which `recs monitor` tells drift.

    Raises `ConfigError` for a number that cannot be meant, answers logged without requests, and a key that is not
    printable ASCII without spaces around it.
    """

    bundle: str
    beside: str | None = None
    index: str | None = None
    unknown: Literal["oov", "popular", "error"] = "oov"
    api_key: str | None = None
    local: bool = False
    admin: bool = False
    page: bool = True
    waiting: int = 512
    deadline: float = 5.0
    max_body: int = 2 * 1024 * 1024
    log_requests: bool = True
    log_answers: bool = False

    def __post_init__(self) -> None:
        if self.unknown not in ("oov", "popular", "error"):
            raise ConfigError(f"unknown is oov, popular or error; got {self.unknown!r}")
        for name in ("waiting", "deadline", "max_body"):
            if not is_finite(getattr(self, name)) or not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be a finite number above 0, got {getattr(self, name)!r}")
        if self.log_answers and not self.log_requests:
            raise ConfigError("log_answers adds to the lines that log_requests=False (--no-log) leaves out; name one")
        _check_key(self.api_key)


def _check_key(key: str | None) -> None:
    """Raise `ConfigError` for a key that no request can bring as it is."""
    if key is None:
        return
    if not key.strip():
        raise ConfigError("api_key is empty; give a long random one, or none at all")
    if key != key.strip():
        raise ConfigError(
            "api_key begins or ends with a space or a line break, which no header can bring; strip it, as "
            'RECS_API_KEY="$(cat FILE)" does of a line break'
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("api_key holds more than printable ASCII, which no header brings as it is; take another key")
