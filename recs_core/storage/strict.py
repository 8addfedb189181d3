"""JSON that means one thing: no name twice, no NaN, no nesting without end."""

from __future__ import annotations

import json
from typing import Any

from recs_core.contract.errors import BundleError


def parse_object(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises `BundleError` for anything else."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise BundleError.damaged(where, "it is not UTF-8") from None
    except RecursionError:
        raise BundleError.damaged(where, "it is nested too deep") from None
    except ValueError as error:
        raise BundleError.damaged(where, f"it is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise BundleError.damaged(where, "it is not a JSON object")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return out


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
