"""The spec of an index: its name, and options after a colon, as in "mine:probes=32,lists=1000"."""

from __future__ import annotations

import re
from collections.abc import Mapping

from recs_core.contract.errors import ConfigError

Option = int | float

_OPTION = re.compile(r"([a-z_][a-z0-9_]*)=(-?[0-9]+(?:\.[0-9]+)?)")


def split(spec: str, asked_by: str) -> tuple[str, dict[str, Option]]:
    """The name and the options of a spec. Raises `ConfigError` for what cannot be read."""
    name, colon, text = spec.partition(":")
    options: dict[str, Option] = {}
    for part in text.split(",") if colon else ():
        found = _OPTION.fullmatch(part.strip())
        if found is None or found[1] in options:
            twice = "is there twice" if found else "is no option"
            raise ConfigError(
                f"index {spec!r} (asked for by {asked_by}): {part.strip()!r} {twice}; write NAME:option=number,…"
            )
        options[found[1]] = float(found[2]) if "." in found[2] else int(found[2])
    return name, options


def joined(name: str, options: Mapping[str, Option]) -> str:
    """The spec of a name and options."""
    text = ",".join(f"{option}={value}" for option, value in options.items())
    return f"{name}:{text}" if text else name


def whole(spec: str, name: str, value: Option, least: int) -> int:
    """An option that is a whole number. Raises `ConfigError` for another, and for one below the `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"index {spec!r}: {name} is a whole number ≥ {least}, got {value!r}")
    return value
