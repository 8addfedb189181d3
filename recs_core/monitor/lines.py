"""The lines of a service's log that tell of recommendations."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from recs_core.contract.errors import DataError
from recs_core.storage.whole import why_unread

ROUTE = "/recommend"
SHORTEST = 8
"""Digits of a digest that name a bundle; the service logs the first twelve, and what changed since after a `+`."""


@dataclass(frozen=True)
class Answer:
    """What one query was answered. `top`: the highest score, None of an empty list; `candidates`: ids, best first."""

    answered_by: str
    top: float | None
    candidates: list[Any]


@dataclass(frozen=True)
class Request:
    """One request that was answered, in line `line` of the log, counted from 1. `bundle`: how its digest begins.

    `answers` are None where the service was not told to log them. `narrowed`: candidates were left out or kept by the
    request's own word, or chosen for variety.
    """

    line: int
    day: str
    bundle: str
    queries: int
    unknown: int
    k: int = 0
    exclude_seen: bool = False
    narrowed: bool = False
    answers: tuple[Answer, ...] | None = None


class Log:
    """A log, read line by line. `malformed`: lines that cannot be read, the first of them `first_malformed`, counted
    from 1; `refused`: requests that were not answered, by day. Both grow while it is read."""

    def __init__(self, path: Path, integers: bool) -> None:
        self.path, self._id = path, int if integers else str
        self.malformed = 0
        self.first_malformed: int | None = None
        self.refused: dict[str, int] = {}

    def requests(self) -> Iterator[Request]:
        """Every answered `/recommend`; lines of anything else are passed over. Raises `DataError` for no file."""
        try:
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    found = self._read(number, line) if line.strip() else None
                    if found is not None:
                        yield found
        except OSError as error:
            raise DataError(f"{self.path}: {why_unread(error)}; give the log of `recs serve`") from None

    def bad(self, number: int) -> None:
        """Line `number` is malformed."""
        self.malformed += 1
        self.first_malformed = min(number, self.first_malformed or number)

    def _read(self, number: int, line: bytes) -> Request | None:
        try:
            told = json.loads(line)
            if not isinstance(told, dict) or not isinstance(told.get("event"), str):
                raise ValueError
            if told["event"] != "request" or told.get("route") != ROUTE:
                return None
            day = date.fromisoformat(told["at"][:10]).isoformat()
            if told["status"] != 200:
                self.refused[day] = self.refused.get(day, 0) + 1
                return None
            return self._request(number, day, told)
        except (ValueError, KeyError, TypeError, RecursionError):
            self.bad(number)
            return None

    def _request(self, number: int, day: str, told: dict[str, Any]) -> Request:
        bundle, queries, unknown = told["bundle"], _count(told["num_queries"]), _count(told["num_unknown"])
        if not isinstance(bundle, str) or len(bundle) < SHORTEST or unknown > queries:
            raise ValueError
        if "answers" not in told:
            return Request(number, day, bundle, queries, unknown)
        asked = told["asked"]
        answers = tuple(self._answer(answer) for answer in told["answers"])
        if len(answers) != queries:
            raise ValueError
        options = bool(asked["exclude_seen"]), bool(asked["narrowed"])
        return Request(number, day, bundle, queries, unknown, max(1, _count(asked["k"])), *options, answers)

    def _answer(self, told: dict[str, Any]) -> Answer:
        candidates, top = told["candidates"], told["top"]
        if not isinstance(candidates, list) or not all(type(id_) is self._id for id_ in candidates):
            raise ValueError
        if (top is None) != (not candidates) or not isinstance(told["answered_by"], str):
            raise ValueError
        if top is not None and not math.isfinite(top):
            raise ValueError
        if self._id is int and any(not -(2**63) <= id_ < 2**63 for id_ in candidates):
            raise ValueError
        return Answer(told["answered_by"], top, candidates)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value
