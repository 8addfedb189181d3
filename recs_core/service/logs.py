"""Structured logs: a line of JSON each, with the request's id and nobody's ids. `recs monitor` reads them."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recs_core.service.schemas import Recommend

log = logging.getLogger("recs_core.service")


class Lines(logging.Formatter):
    """A record as one line of JSON: when, how bad, what, and the fields that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "told", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def tell(level: int, event: str, *, trace: BaseException | None = None, **told: Any) -> None:
    """One line. `told`: its fields; `trace`: the error whose traceback goes with it."""
    if log.isEnabledFor(level):
        log.log(level, event, extra={"told": told}, exc_info=trace)


def told_of(asks: Recommend, answers: Sequence[Mapping[str, Any]], whole: bool) -> dict[str, Any]:
    """What the line of a recommendation says beside its times: how many queries, and how many of them training never
    saw; `whole`: also what was asked for and what was recommended, by whom and with which highest score."""
    told: dict[str, Any] = {
        "num_queries": len(answers),
        "num_unknown": sum(answer["unknown_query"] for answer in answers),
    }
    if not whole:
        return told
    narrowed = bool(asks.diversity) or any(part is not None for part in (asks.allow, asks.where, asks.exclude))
    told["asked"] = {"k": asks.k, "exclude_seen": asks.exclude_seen, "narrowed": narrowed}
    told["answers"] = [
        {
            "answered_by": answer["answered_by"],
            "top": answer["candidates"][0]["score"] if answer["candidates"] else None,
            "candidates": [candidate["id"] for candidate in answer["candidates"]],
        }
        for answer in answers
    ]
    return told


def to_stderr() -> None:
    """All that the library logs, as lines of JSON on stderr. For a process that serves and does nothing else."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(Lines())
    for name in ("recs_core", "uvicorn", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [lines], False
    logging.getLogger("recs_core").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(True)
