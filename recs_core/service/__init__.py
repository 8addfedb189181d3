"""The service: a bundle behind an address, as an ASGI application. No framework in the process."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recs_core.contract.errors import MissingExtra
from recs_core.service.settings import Settings

NEEDED = ("fastapi", "prometheus_client", "uvicorn")


def need_extra() -> None:
    """Raise `MissingExtra`, with the line to type, where what the extra `serve` brings is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f'the service needs {", ".join(missing)}; pip install "recs-core[serve]"')


def asgi(bundle: str | Path, **settings: Any) -> Any:
    """An ASGI application that serves a bundle, to run or to mount in another one.

    `bundle`: its folder. `settings`: the fields of `Settings`; without `api_key` every request is answered, and who may
    ask is for the application around it to say. The bundle is verified in the background from the lifespan's start, or
    where none is run, from the first request on; until it is, `/readyz` and every question are answered 503.

    Raises `MissingExtra` without the extra `serve`, `ConfigError` for a setting that cannot be meant.
    """
    need_extra()
    from recs_core.service.app import application

    return application(Settings(bundle=str(bundle), **_checked(settings)))


def _checked(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    from dataclasses import fields

    from recs_core.contract.errors import ConfigError

    known = {field.name for field in fields(Settings)} - {"bundle"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigError(f"asgi: there is no setting {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return settings


__all__ = ["Settings", "asgi", "need_extra"]
