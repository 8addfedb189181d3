"""`recs new-plugin`: a distribution with a backend to fill in."""

from __future__ import annotations

import importlib.resources
import re
import shutil
import uuid
from pathlib import Path
from string import Template
from typing import Annotated

import typer

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/{module}/__init__.py": "__init__.py",
    "src/{module}/plugin.py": "plugin.py",
    "src/{module}/backend.py": "backend.py",
    "tests/test_conformance.py": "test_conformance.py",
}
"""Each file of the distribution → its template."""


def new_plugin(
    name: Annotated[str, typer.Argument(help='The backend\'s name, as in "mine"; its distribution is recs-core-NAME.')],
    into: Annotated[Path, typer.Option(help="The folder to make it in.")] = Path(),
) -> None:
    """Start a backend of your own: a distribution that installs, and a suite that says what is left to write."""
    from recs_core.storage.paths import local

    folder = scaffold(name, local(into, "--into"))
    typer.echo(f'{folder}\nnext: pip install -e "{folder}[test]", then recs check {name}')


def scaffold(name: str, into: Path) -> Path:
    """Write the distribution `recs-core-<name>` into a folder and return its path: all of it, or nothing.

    Raises `SpecError` for a name that is none or is taken, `ConfigError` where the folder cannot be made.
    """
    from recs_core.contract.errors import ConfigError

    words = _words(name)
    target = into / words["distribution"]
    if not into.is_dir():
        raise ConfigError(f"--into {into}: there is no such folder; `mkdir -p {into}`")
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} is there already; choose another name, or another folder with --into")
    unfinished = into / f".{words['distribution']}-{uuid.uuid4().hex}"
    try:
        _write(unfinished, words)
        unfinished.rename(target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # renamed away where all went well
    return target


def _words(name: str) -> dict[str, str]:
    """What the templates ask for."""
    from recs_core.contract.errors import SpecError
    from recs_core.plugin.manager import list_backends
    from recs_core.version import __version__

    if NAME.fullmatch(name) is None:
        raise SpecError(
            f"{name!r} cannot name a backend; use lower-case letters, digits and single hyphens: my-backend"
        )
    for row in list_backends():
        if row.name == name:
            raise SpecError(f"backend {name!r} is {row.distribution}'s already; two of one name cannot be told apart")
    major, minor = __version__.split(".")[:2]
    return {
        "name": name,
        "distribution": f"recs-core-{name}",
        "module": f"recs_core_{name.replace('-', '_')}",
        "class_name": "".join(part.capitalize() for part in name.split("-")),
        "version": __version__,
        "next_version": f"{major}.{int(minor) + 1}",
        "capabilities": _capabilities(),
    }


def _capabilities() -> str:
    """A line for each capability that there is, none of them claimed."""
    from recs_core.contract.manifest import BACKEND_CAPABILITIES

    return "\n".join(f'    "{name}": No(NOT_YET),  # {meaning}' for name, meaning in BACKEND_CAPABILITIES.items())


def _write(folder: Path, words: dict[str, str]) -> None:
    templates = importlib.resources.files("recs_core.templates") / "backend"
    for path, template in FILES.items():
        text = (templates / f"{template}.template").read_text(encoding="utf-8")
        file = folder / path.format(**words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(words), encoding="utf-8")
