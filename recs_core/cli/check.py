"""`recs check`: the conformance suite on a backend or an index, without pytest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from recs_core.cli import options

if TYPE_CHECKING:
    from recs_core.conformance.runner import Outcome

RED = 1


def check(
    name: Annotated[str, typer.Argument(help='Backend, as in "torch" or "keras[jax]"; with --index, an index.')],
    index: Annotated[bool, typer.Option("--index", help="NAME is an index.")] = False,
    device: options.Device = None,
    workers: Annotated[int, typer.Option(min=1, help="How many train together in the checks of several.")] = 2,
    tier: Annotated[list[str] | None, typer.Option(help="Only this tier; may be repeated.")] = None,
    expected_failures: Annotated[str | None, typer.Option(help='JSON file of {"check": "reason it fails"}.')] = None,
    as_json: Annotated[str | None, typer.Option("--json", help="Write the report to this file; - prints it.")] = None,
) -> None:
    """Check that a plugin means what the core means. Exit code 1 if anything is red."""
    from recs_core.config import placed
    from recs_core.conformance.registry import TIERS
    from recs_core.conformance.runner import run
    from recs_core.contract.errors import ConfigError
    from recs_core.storage import whole
    from recs_core.storage.paths import local

    if index and device is not None:
        raise ConfigError(f"--device {device} is of a backend, and {name!r} is asked for as an index; leave it out")
    report_file = None if as_json in (None, "-") else local(as_json, "--json")
    if report_file is not None:
        whole.check_file(report_file, "--json", ConfigError)
    report = run(
        None if index else placed(name, device),
        index=name if index else None,
        workers=workers,
        tiers=tier or tuple(TIERS),
        expected_failures=_listed(expected_failures),
        progress=_tell,
    )
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    if as_json == "-":
        typer.echo(text)
    else:
        typer.echo(report.table())
        if report_file is not None:
            whole.replace(report_file, lambda to: to.write_text(text + "\n", encoding="utf-8"))
    if not report.green:
        raise typer.Exit(RED)


def _tell(outcome: Outcome) -> None:
    """One line on stderr as each check ends."""
    typer.echo(f"{outcome.check}: {outcome.status} ({outcome.seconds:.1f} s)", err=True)


def _listed(path: str | None) -> dict[str, str]:
    from recs_core.contract.errors import ConfigError
    from recs_core.storage.paths import local
    from recs_core.storage.whole import why_unread

    if path is None:
        return {}
    try:
        listed = json.loads(local(path, "--expected-failures").read_text(encoding="utf-8"))
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"--expected-failures {path}: {why_unread(error)}") from error
    except ValueError:
        listed = None
    if not isinstance(listed, dict) or not all(isinstance(reason, str) for reason in listed.values()):
        raise ConfigError(f'--expected-failures {path}: must be JSON of {{"check": "reason it fails"}}')
    return listed
