"""The context of requests, from what is typed on a shell and from the columns of a file of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from recs_core.contract.columns import is_text
from recs_core.contract.errors import DataError
from recs_core.contract.towers import TowerSpec
from recs_core.data.schema import Schema
from recs_core.tables import times

BLANK = "blank"


@dataclass(frozen=True)
class Requests:
    """What is known of requests: a value for all of them, or a column of the file of queries. `at`: their time."""

    schema: Schema
    values: Mapping[str, Any]
    columns: tuple[str, ...]
    at: str | float | None
    blank: bool

    @classmethod
    def of(
        cls,
        tower: TowerSpec,
        schema: Schema,
        said: Sequence[str],
        at: str | None,
        *,
        file: str = "",
        columns: Sequence[str] = (),
    ) -> Requests:
        """From what stands after `--context`, NAME=VALUE or "blank", and after `--at`; of a job over a `file`, from its
        `columns` too, and then nothing is asked as of now, so that the same job has the same answers.

        Raises `DataError` for a context that the query tower reads and nobody tells, or that is told and not read.
        """
        if said and not schema.of_request:
            raise DataError("--context: this model reads nothing of a request; leave it out")
        if at is not None and schema.time_name is None:
            raise DataError("--at: this model does not read the time of a request; leave it out")
        if BLANK in said and len(said) > 1:
            raise DataError("--context blank says that nothing is known of the request; leave the other --context out")
        asked = None if at is None else _time(at)
        if asked is not None:
            times.seconds([asked], "--at")
        blank = BLANK in said
        values: dict[str, Any] = {}
        for text in () if blank else said:
            name, value = _spoken(text, tower, schema)
            if name in values:
                raise DataError(f"--context: {name!r} is said twice; say it once")
            values[name] = value
        given = tuple(name for name in schema.of_request if name in columns and name not in values and not blank)
        missing = [name for name in schema.context if name not in (*values, *given, schema.time_name)]
        if missing and not blank:
            listed, cure = ", ".join(map(repr, missing)), f"add the column to {file}, or say" if file else "say"
            raise DataError(
                f"this model reads {listed} of a request: {cure} --context {missing[0]}=VALUE, or --context blank to "
                "answer as if nothing was known"
            )
        if file and schema.time_name not in (None, *given) and at is None and not blank:
            raise DataError(f"this model reads the time of a request: add {schema.time_name!r} to {file}, or say --at")
        return cls(schema, values, given, asked, blank)

    def asks(self, rows: pa.Table) -> dict[str, Any]:
        """The arguments `context` and `at` of `recommend`, for so many rows, those of the file."""
        if not self.schema.of_request:
            return {}
        time_name = self.schema.time_name
        timed = time_name in self.columns and self.at is None
        told = {name: rows[name] for name in self.columns if name != time_name}
        told |= {name: pa.array([value] * len(rows)) for name, value in self.values.items()}
        context = BLANK if self.blank else pa.table(told) if told else None
        return {"context": context, "at": rows[time_name] if timed else self.at}


def _time(at: str) -> str | float:
    """Seconds, as typed, or an ISO time; fewer than nine digits are no seconds that anyone would ask as of."""
    seconds = at.replace(".", "", 1).isdigit() and float(at) >= 1e8
    return float(at) if seconds else at


def _spoken(text: str, tower: TowerSpec, schema: Schema) -> tuple[str, Any]:
    """NAME=VALUE, the value in the type of training."""
    name, equals, value = text.partition("=")
    if not equals:
        raise DataError(f"--context is NAME=VALUE, as in --context device=ios, or blank; got {text!r}")
    if name == schema.time_name:
        raise DataError(f"--context: {name!r} is the time of the request; say --at {value}")
    feature = next((f for f in tower.features if f.name == name and name in schema.context), None)
    if feature is None:
        read = ", ".join(n for n in schema.context if n != schema.time_name) or "its time alone"
        raise DataError(f"--context: this model does not read {name!r} of a request; it reads {read}")
    vocabulary = schema.known("query", feature).vocabulary
    if vocabulary is not None and is_text(vocabulary.ids.type):
        return name, value
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
