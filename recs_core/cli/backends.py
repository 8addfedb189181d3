"""`recs backends`: what is installed, what it can do, which one is selected and who said so. Imports no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.config import Selection
    from recs_core.plugin.manager import Listed


def backends(as_json: AsJson = False) -> None:
    """List what is installed, what is selected, and who said so."""
    from recs_core.plugin.manager import list_backends, list_indexes

    selection, problem = _selected()
    rows, indexes = list_backends(), list_indexes()
    if as_json:
        selected = {"problem": problem} if selection is None else vars(selection)
        print_json(
            {"selected": selected, "backends": [_as_data(r) for r in rows], "indexes": [_as_data(r) for r in indexes]}
        )
        return
    name = None if selection is None else selection.name
    print_table(
        ("", "backend", "provided by", "engines", "capabilities"),
        [("→" if r.name == name else "", r.name, _provider(r), _engines(r), _summary(r)) for r in rows],
    )
    if indexes:
        print_table(
            ("index", "provided by", "finds", "capabilities"),
            [(r.name, _provider(r), r.info and r.info.finds, _summary(r)) for r in indexes],
        )
    typer.echo(f"selected: {selection}, by {selection.source}" if selection else f"selected: none; {problem}")


def _selected() -> tuple[Selection | None, str | None]:
    """The selection, or why there is none: a wrong setting must not hide the list that helps to mend it."""
    from recs_core.config import select
    from recs_core.contract.errors import RecsError

    try:
        return select(), None
    except RecsError as error:
        return None, str(error)


def _provider(row: Listed[Any]) -> str:
    return f"{row.distribution} {row.version}"


def _engines(row: Listed[Any]) -> str:
    return ", ".join(row.info.engines) if row.info else ""


def _summary(row: Listed[Any]) -> str:
    if row.problem is not None or row.info is None:
        return str(row.problem)
    declared = row.info.capabilities
    lacks = [f"{name} ({answer.reason})" for name, answer in declared.items() if answer is not True]
    able = f"{len(declared) - len(lacks)} of {len(declared)}"
    for engine, nos in getattr(row.info, "lacks", {}).items():
        lacks += [f"{name} on {row.name}[{engine}] ({no.reason})" for name, no in nos.items()]
    return f"{able}; not {', not '.join(lacks)}" if lacks else able


def _as_data(row: Listed[Any]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": row.name,
        "distribution": row.distribution,
        "version": row.version,
        "problem": row.problem,
    }
    if row.info is not None:
        capabilities = {name: answer is True or answer.reason for name, answer in row.info.capabilities.items()}
        data |= vars(row.info) | {"capabilities": capabilities}
    if row.info is not None and "lacks" in data:
        data["lacks"] = {e: {name: no.reason for name, no in nos.items()} for e, nos in data["lacks"].items()}
    return data
