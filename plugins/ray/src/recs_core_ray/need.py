"""Ray, where it is installed and new enough."""

from __future__ import annotations

import importlib.metadata
import re

from recs_core.contract.errors import MissingExtra

LEAST = (2, 55)
"""The first Ray whose Train takes a range of workers."""

INSTALL = f"pip install 'ray[data,train]>={LEAST[0]}.{LEAST[1]}'"


def need_ray(asks: str) -> None:
    """Raise `MissingExtra` where Ray is not installed or older than `LEAST`. `asks`: the call that needs it."""
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra(f"{asks} needs Ray, which is not installed; {INSTALL}") from None
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < LEAST:
        raise MissingExtra(f"{asks} needs Ray {LEAST[0]}.{LEAST[1]} or newer, and {version} is installed; {INSTALL}")
