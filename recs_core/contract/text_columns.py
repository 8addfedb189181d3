"""Why a column of strings is not what it was meant to be, and what to type. It only goes into errors and reasons."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
_THOUSANDS = {
    sign: rf"^\s*[-+]?[0-9]{{1,3}}({sign}[0-9]{{3}})+(\.[0-9]+)?\s*$" for sign in (",", "'", " ", "\xa0", "_")
}
_THOUSANDS["."] = r"^\s*[-+]?[0-9]{1,3}(\.[0-9]{3})*(,[0-9]+)?\s*$"
_BETWEEN = ("|", ";", ",")
_MOST = 0.5
"""Share of the values that must hold a sign for it to be taken for what lies between the values of a list."""


def why_no_numbers(strings: pa.Array | pa.ChunkedArray) -> str:
    """What makes text of the numbers that a column of strings was meant to be, as the end of a sentence."""
    if (why := thousands(strings)) is not None:
        return why
    odd = _no_numbers(strings)
    return f", the first that is no number is {odd[0].as_py()!r}" if len(odd) else ": convert them"


def thousands(strings: pa.Array | pa.ChunkedArray) -> str | None:
    """The signs between thousands, as the end of a sentence, where nothing else keeps the values from being numbers."""
    odd = _no_numbers(strings)
    for sign, pattern in _THOUSANDS.items():
        if len(odd) and pc.all(pc.match_substring_regex(odd, pattern)).as_py():
            options = f"thousands={sign!r}" + (", decimal=','" if sign == "." else "")
            return (
                f", such as {odd[0].as_py()!r}: its thousands separators make a number text; take them out, as "
                f"pandas.read_csv(…, {options}) does"
            )
    return None


def _no_numbers(strings: pa.Array | pa.ChunkedArray) -> Any:
    known = strings.drop_null()
    return known.filter(pc.invert(pc.match_substring_regex(known, _NUMBER)))


def why_no_lists(strings: pa.Array | pa.ChunkedArray) -> str:
    """What lies between the values where a column of strings was meant to hold lists; empty where nothing seems to."""
    known = strings.drop_null()
    for sign in _BETWEEN:
        found = known.filter(pc.match_substring(known, sign))
        if len(found) and len(found) >= _MOST * len(known):
            return (
                f", such as {found[0].as_py()!r}; of a CSV file from_table(lists={{COLUMN: {sign!r}}}) makes lists "
                f"of them (on the shell --list 'COLUMN={sign}')"
            )
    return ""
