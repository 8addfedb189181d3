"""Small pieces of the one line that an error is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def some(items: Iterable[Any], limit: int = 5) -> str:
    """The first few items for a message, and how many more there are."""
    items = list(items)
    shown = ", ".join(repr(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit:,} more"


def one_line(error: BaseException) -> str:
    """What another library's error says, on one line and not too long."""
    return _cut(str(error), 200)


def shown(value: Any) -> str:
    """A value as it would be typed, on one line and not too long."""
    return _cut(repr(value), 80)


def _cut(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
