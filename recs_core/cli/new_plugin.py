"""`recs new-plugin`: a distribution with a backend or an index to fill in."""

from __future__ import annotations

import importlib.resources
import re
import shutil
import uuid
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from recs_core.plugin.manager import Kind, Listed

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

FILES = {
    "pyproject.toml": "shared/pyproject.toml",
    "README.md": "shared/README.md",
    "src/{module}/__init__.py": "shared/__init__.py",
    "src/{module}/plugin.py": "{noun}/plugin.py",
    "src/{module}/{noun}.py": "{noun}/{noun}.py",
    "tests/test_conformance.py": "shared/test_conformance.py",
}
"""Each file of the distribution → its template, by the words of `_words`."""

WORDS = {
    "backend": {"suite": "RetrievalConformance", "page": "write-a-backend.md", "check": "recs check {}"},
    "index": {"suite": "IndexConformance", "page": "write-an-index.md", "check": "recs check {} --index"},
}
"""Kind of plugin → its class of checks, the page about it, and the command that checks one of a name."""


def new_plugin(
    name: Annotated[str, typer.Argument(help='The plugin\'s name, as in "mine"; its distribution is recs-core-NAME.')],
    index: Annotated[bool, typer.Option("--index", help="An index, not a backend.")] = False,
    into: Annotated[Path, typer.Option(help="The folder to make it in.")] = Path(),
) -> None:
    """Start a backend or an index of your own: a distribution that installs, and a suite that says what is left."""
    from recs_core.plugin.manager import BACKENDS, INDEXES
    from recs_core.storage.paths import local

    kind: Kind[Any] = INDEXES if index else BACKENDS
    folder = scaffold(name, local(into, "--into"), kind)
    typer.echo(f'{folder}\nnext: pip install -e "{folder}[test]", then {WORDS[kind.noun]["check"].format(name)}')


def scaffold(name: str, into: Path, kind: Kind[Any]) -> Path:
    """Write the distribution `recs-core-<name>` into a folder and return its path: all of it, or nothing.

    `kind`: `BACKENDS` or `INDEXES` of `recs_core.plugin.manager`. Raises `SpecError` for a name that is none or is
    taken, `ConfigError` where the folder cannot be made.
    """
    from recs_core.contract.errors import ConfigError

    words = _words(name, kind)
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


def _words(name: str, kind: Kind[Any]) -> dict[str, str]:
    """What the templates ask for."""
    from recs_core.version import __version__

    distribution = f"recs-core-{name}"
    _check_name(name, distribution, kind)
    major, minor = __version__.split(".")[:2]
    own = {key: word.format(name) for key, word in WORDS[kind.noun].items()}
    return own | {
        "name": name,
        "noun": kind.noun,
        "group": kind.group,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "class_name": "".join(part.capitalize() for part in name.split("-")),
        "version": __version__,
        "next_version": f"{major}.{int(minor) + 1}",
        "capabilities": "\n".join(_declined(kind)),
    }


def _check_name(name: str, distribution: str, kind: Kind[Any]) -> None:
    """Raise `SpecError` for what is no name, and for one that an installed plugin has, or its distribution."""
    from recs_core.contract.errors import SpecError
    from recs_core.plugin.manager import list_backends, list_indexes

    if NAME.fullmatch(name) is None:
        article = "an" if kind.noun == "index" else "a"
        raise SpecError(
            f"{name!r} cannot name {article} {kind.noun}; use lower-case letters, digits and single hyphens: "
            f"my-{kind.noun}"
        )
    listed: dict[str, list[Listed[Any]]] = {"backend": [*list_backends()], "index": [*list_indexes()]}
    for row in listed[kind.noun]:
        if row.name == name:
            raise SpecError(
                f"{kind.noun} {name!r} is {row.distribution}'s already; two of one name cannot be told apart"
            )
    for noun, rows in listed.items():
        for row in rows:
            if row.distribution == distribution:
                raise SpecError(
                    f"{distribution} is the distribution of the {noun} {row.name!r} already; choose another name"
                )


def _declined(kind: Kind[Any]) -> list[str]:
    """A line for each capability that there is, none of them claimed."""
    return [f'    "{name}": No(NOT_YET),  # {meaning}' for name, meaning in kind.capabilities.items()]


def _write(folder: Path, words: dict[str, str]) -> None:
    templates = importlib.resources.files("recs_core.templates")
    for path, template in FILES.items():
        text = (templates / f"{template.format(**words)}.template").read_text(encoding="utf-8")
        file = folder / path.format(**words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(words), encoding="utf-8")
