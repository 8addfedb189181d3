"""The pytest plugin: the options that say what to check, and a header that says what it was checked with.

An entry point loads it, because options that a conftest.py declares are not known in time under `--pyargs`. It imports
nothing of the suite before a test asks for it.
"""

from __future__ import annotations

import json
import os

import pytest

OPTIONS = ("recs_backend", "recs_index")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("recs-core", "conformance of recs-core plugins")
    group.addoption("--recs-backend", metavar="NAME", help="the backend to check, as in torch or keras[jax]")
    group.addoption("--recs-index", metavar="NAME", help="the index to check")
    group.addoption("--recs-tier", metavar="TIER", action="append", help="only checks of this tier; may be repeated")
    group.addoption("--recs-expected-failures", metavar="FILE", help='JSON of {"check": "reason it fails"}')


def pytest_configure(config: pytest.Config) -> None:
    """Make the backend under test the default of the process."""
    pytest.register_assert_rewrite("recs_core.conformance.suite")
    if config.option.recs_backend:
        os.environ["RECS_BACKEND"] = config.option.recs_backend


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is checked, and every version and variable that the result depends on."""
    return header(config)


def header(config: pytest.Config) -> list[str]:
    """The lines of the header. Raises `pytest.UsageError` for a backend that is not installed."""
    if not any(getattr(config.option, name) for name in OPTIONS):
        return []
    from recs_core.config import parse
    from recs_core.conformance.runner import environment
    from recs_core.contract.errors import RecsError
    from recs_core.plugin import manager

    lines = []
    try:
        if config.option.recs_backend:
            chosen = parse(config.option.recs_backend, "--recs-backend")
            found = environment(manager.backend_info(chosen.name, chosen.engine, asked_by="--recs-backend"))
            lines.append(f"recs-core backend: {chosen} ({', '.join(f'{k} {v}' for k, v in found.items())})")
        if config.option.recs_index:
            lines.append(f"recs-core index: {config.option.recs_index}")
    except RecsError as error:
        raise pytest.UsageError(str(error)) from error
    return lines


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep of the installed suite what the options name and the tiers they ask for; nothing named is an error."""
    mine = [item for item in items if hasattr(getattr(item, "cls", None), "option")]
    if not mine:
        return
    if not any(getattr(config.option, name) for name in OPTIONS):
        raise pytest.UsageError("name what to check: --recs-backend NAME or --recs-index NAME")
    header(config)  # an unknown name is an error here, before any check, also where no header is shown
    from recs_core.conformance.registry import CHECKS

    chosen = tiers(config)
    dropped = [
        item
        for item in mine
        if not getattr(config.option, item.cls.option)  # type: ignore[attr-defined]
        or CHECKS[item.callspec.params["check"]].tier not in chosen  # type: ignore[attr-defined]
    ]
    if len(dropped) == len(mine):
        raise pytest.UsageError(f"no check is of tier {', '.join(chosen)}")
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in dropped]


def tiers(config: pytest.Config) -> tuple[str, ...]:
    """The tiers asked for, all by default."""
    from recs_core.conformance.registry import TIERS

    chosen = tuple(config.option.recs_tier or TIERS)
    unknown = [tier for tier in chosen if tier not in TIERS]
    if unknown:
        raise pytest.UsageError(f"--recs-tier {unknown[0]}: there are {', '.join(TIERS)}")
    return chosen


def expected_failures(config: pytest.Config) -> dict[str, str]:
    """The failures listed, none by default."""
    from recs_core.storage.paths import local

    path = config.option.recs_expected_failures
    if path is None:
        return {}
    try:
        listed: dict[str, str] = json.loads(local(path, "--recs-expected-failures").read_text())
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"--recs-expected-failures {path}: {error}") from error
    return listed
