"""How commands speak: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
"""The type of every command's `--json` option."""


def print_json(data: object) -> None:
    """Print `data` as indented JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under headers; None is an empty cell. Text is printed as it is, brackets included.

    Through `typer.echo`, as all output: rich itself would end the process where the reader has gone.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(Text(header))
    for row in rows:
        table.add_row(*("" if cell is None else Text(str(cell)) for cell in row))
    console = Console()
    with console.capture() as drawn:
        console.print(table)
    typer.echo(drawn.get(), nl=False)
