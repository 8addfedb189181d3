"""The entry point of `recs`.

A command is a function in a file of its own, registered below with `app.command()`; a group is a `typer.Typer` of its
own, with `app.add_typer`. Every file imports only typer and the standard library at its top, so that `recs --help` is
quick; what a command needs it imports when it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer

import recs_core
from recs_core.cli import (
    backends,
    bundle,
    check,
    compare,
    data,
    doctor,
    evaluate,
    index,
    monitor,
    new_plugin,
    recommend,
    serve,
    train,
)
from recs_core.contract.errors import ConfigError, RecsError, WorkerLost
from recs_core.distributed.launch import LOST

USER_ERROR, INTERRUPTED = 2, 130

_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, wherever this typer has its click

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
app.command()(serve.serve)
app.command()(monitor.monitor)
app.command()(compare.compare)
app.add_typer(bundle.app, name="bundle")
app.add_typer(index.app, name="index")
app.command()(new_plugin.new_plugin)


def main(arguments: list[str] | None = None) -> None:
    """Run `recs`, for every command alike.

    Exit code 2 and one line on stderr for an error of ours, an argument that is no text, and an output that cannot be
    written, 3 where another worker is lost; a warning is one line too; 130 and not a word for Ctrl-C; else the
    command's own.
    """
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = _run(sys.argv[1:] if arguments is None else arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        sys.exit(code)
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except WorkerLost as error:
        _leave(LOST, str(error))
    except RecsError as error:
        _leave(USER_ERROR, str(error))
    except BrokenPipeError:
        _leave(USER_ERROR, "the output was closed before all of it was written")
    except OSError as error:
        _leave(USER_ERROR, f"{error.filename or 'output'}: {error.strerror or error}")
    except UnicodeEncodeError as error:
        _leave(USER_ERROR, f"the output cannot show {error.object[error.start]!a}: set PYTHONIOENCODING=utf-8")
    except MemoryError:
        _leave(USER_ERROR, "out of memory")


def _run(arguments: list[str]) -> int:
    """The command's exit code. Not through `app()`, which has words of its own for Ctrl-C and a closed output."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("recs", list(arguments), obj=list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except _UsageProblem as problem:
        _say_where_it_lives(problem)
        problem.show()  # type: ignore[attr-defined]
        return problem.exit_code  # type: ignore[attr-defined]
    return 0


_LONG_K = ("--k", "--top-k", "--top_k", "--topk")


def _say_where_it_lives(problem: Exception) -> None:
    """Raise `ConfigError` for an option that is another on the shell, or that Python has and the shell lacks."""
    option, context = getattr(problem, "option_name", None), getattr(problem, "ctx", None)
    if option is None or context is None:
        return
    if option in _LONG_K and any("-k" in parameter.opts for parameter in context.command.params):
        raise ConfigError(f"{context.command_path}: there is no option {option}; write -k") from problem
    root = context.find_root()
    if any(option in parameter.opts for parameter in root.command.params):
        raise ConfigError(
            f"{context.command_path}: there is no option {option}; it goes before the command: "
            f"recs {option} … {context.command_path.partition(' ')[2]} …"
        ) from problem
    from recs_core.elsewhere import home

    if (where := home(option)) is not None:
        raise ConfigError(f"{context.command_path}: there is no option {option}; in Python, {where}") from problem


def _check_text(arguments: list[str]) -> None:
    """Raise `ConfigError` for an argument whose bytes are not UTF-8: neither an id nor a name in a file can hold it."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise ConfigError(f"argument {argument!a} is not UTF-8; give it in that encoding")


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning without Python's line of source, which tells a reader of the shell nothing."""
    with contextlib.suppress(OSError):
        typer.echo(f"recs: {message}".encode(errors="backslashreplace"), err=True)


def _leave(code: int, said: str | None = None) -> NoReturn:
    """End with this code. What an output could not take is dropped, so that Python does not try it again at exit."""
    if said is not None:
        with contextlib.suppress(OSError):
            typer.echo(f"recs: {said}".encode(errors="backslashreplace"), err=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
