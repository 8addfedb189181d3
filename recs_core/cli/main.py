"""The entry point of `recs`.

A command is a function in a file of its own, registered below with `app.command()`; a group is a `typer.Typer` of its
own, with `app.add_typer`. Every file imports only typer and the standard library at its top, so that `recs --help` is
quick; what a command needs it imports when it runs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import recs_core
from recs_core.cli import backends, bundle, check, compare, data, doctor, evaluate, new_plugin, recommend, train
from recs_core.errors import RecsError

USER_ERROR = 2

app = typer.Typer(
    help="Two-tower recommenders: trained in any framework, served with none.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"recs-core {recs_core.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    backend: Annotated[str | None, typer.Option(help='Backend, as in "torch" or "keras[jax]".')] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print it.")
    ] = False,
) -> None:
    if backend is not None:
        from recs_core.config import BACKEND_VARIABLE, use

        use(backend, source="recs --backend")
        os.environ[BACKEND_VARIABLE] = backend  # for the processes that a command starts


app.command()(backends.backends)
app.command()(doctor.doctor)
app.command()(check.check)
app.add_typer(data.app, name="data")
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(recommend.recommend)
app.command()(compare.compare)
app.add_typer(bundle.app, name="bundle")
app.command()(new_plugin.new_plugin)


def main(arguments: list[str] | None = None) -> None:
    """Run `recs`; an error of ours is one line on stderr and exit code 2."""
    try:
        app(arguments)
    except RecsError as error:
        typer.echo(f"recs: {error}", err=True)
        sys.exit(USER_ERROR)
