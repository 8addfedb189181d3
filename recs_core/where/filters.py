"""Which candidates a condition keeps: evaluated once, by Arrow, and remembered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.columns import in_words
from recs_core.contract.errors import DataError
from recs_core.contract.messages import one_line
from recs_core.where.values import compared, one_of

Where: TypeAlias = "pc.Expression | Mapping[str, Any]"

REMEMBERED = 8
"""Conditions whose answer is kept: at most 8 MB each for a million candidates."""

_NAME = re.compile(r"FieldRef\.Name\((.*?)\)")
_MISSING = re.compile(r"No match for FieldRef\.(?:Name\((.*?)\)|(.*?)) in ", flags=re.S)


class Filters:
    """Conditions over one table of candidates; the answers to the last few are remembered.

    `attributes`: row i is candidate i. Several threads may ask at once.
    """

    def __init__(self, attributes: pa.Table) -> None:
        self.attributes = attributes
        self._known: tuple[tuple[pc.Expression, NDArray[np.int64]], ...] = ()

    def kept(self, where: Where) -> NDArray[np.int64]:
        """The candidates that `where` keeps, ascending and read-only; a null keeps nothing.

        `where`: an Arrow expression, or column → value (equal), list (one of them) or (low, high) (low ≤ x ≤ high,
        None is open), which must all hold. Raises `DataError` for a column that is not there, or cannot be compared so.
        """
        asked = as_expression(where, self.attributes.schema)
        for expression, codes in self._known:
            if expression.equals(asked):
                return codes
        codes = _evaluated(asked, self.attributes)
        codes.flags.writeable = False
        self._known = ((asked, codes), *self._known[: REMEMBERED - 1])
        return codes


def as_expression(where: Where, columns: pa.Schema) -> pc.Expression:
    """A condition as an Arrow expression. Raises `DataError` for what is none."""
    if isinstance(where, pc.Expression):
        return where
    if not isinstance(where, Mapping):
        hint = "; recs_core.where.parse reads text" if isinstance(where, str) else ""
        raise DataError(
            "where: expected an Arrow expression such as pc.field('price') < 10, or {column: value, [values] or "
            f"(low, high)}}, got {type(where).__name__}{hint}"
        )
    try:
        each = [_condition(column_of(name, columns), value) for name, value in where.items()]
    except DataError as error:
        raise DataError(f"where: {error}") from None
    return reduce(lambda left, right: left & right, each) if each else pc.scalar(True)


def column_of(name: Any, columns: pa.Schema) -> pa.Field:
    """The column of that name. Raises `DataError` saying which there are."""
    if name not in columns.names:
        raise DataError(f"there is no column {name!r} to filter by; there is {described(columns)}")
    return columns.field(name)


def described(columns: pa.Schema) -> str:
    """The columns and their types, for messages."""
    return ", ".join(f"{column.name} ({in_words(column.type)})" for column in columns)


def _condition(column: pa.Field, value: Any) -> pc.Expression:
    if isinstance(value, tuple):
        return _between(column, value)
    if isinstance(value, (list, set, frozenset)):
        return one_of(column, value)
    if isinstance(value, Mapping) or (hasattr(value, "__array__") and not isinstance(value, np.generic)):
        raise DataError(f"column {column.name!r}: expected a value, a list or (low, high), got {type(value).__name__}")
    return compared(column, "=", value)


def _between(column: pa.Field, ends: tuple[Any, ...]) -> pc.Expression:
    if len(ends) != 2:
        raise DataError(f"column {column.name!r}: a range is (low, high), got {ends!r}; write several values as a list")
    signs = [(sign, end) for sign, end in zip((">=", "<="), ends, strict=True) if end is not None]
    each = [compared(column, sign, end) for sign, end in signs]
    return reduce(lambda left, right: left & right, each) if each else pc.field(column.name).is_valid()


def _evaluated(asked: pc.Expression, table: pa.Table) -> NDArray[np.int64]:
    from pyarrow import acero  # which only those who filter pay for

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    project = acero.Declaration("project", acero.ProjectNodeOptions([asked], ["kept"]))
    try:
        # On one thread: with several, Arrow does not promise the order of rows.
        kept = acero.Declaration.from_sequence([source, project]).to_table(use_threads=False)["kept"]
    except (pa.ArrowException, TypeError) as error:
        raise _refused(asked, table.schema, error) from None
    if not pa.types.is_boolean(kept.type):
        raise DataError(
            f"where: {_shown(asked)} is no condition, it gives {in_words(kept.type)}; compare it with something"
        )
    return np.flatnonzero(pc.fill_null(kept, False).to_numpy())


def _refused(asked: pc.Expression, columns: pa.Schema, error: BaseException) -> DataError:
    """What Arrow says, in our words where it is that a column is missing."""
    missing = _MISSING.match(str(error))
    if missing is not None:
        name = missing[1] or missing[2]
        nested = ".".join(_NAME.findall(name))
        return DataError(f"where: there is no column {nested or name!r} to filter by; there is {described(columns)}")
    return DataError(f"where: {_shown(asked)} cannot be asked, {one_line(error)}; there is {described(columns)}")


def _shown(asked: pc.Expression) -> str:
    text = " ".join(str(asked).split())
    return text if len(text) <= 80 else text[:79] + "…"
