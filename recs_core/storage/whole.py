"""Files of a caller's naming: what cannot be read or written is said in our words, before anything is made where that
can be known, and what is written is there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recs_core.contract.errors import DataError, RecsError
from recs_core.contract.messages import one_line


def why_unread(error: OSError) -> str:
    """Why a file cannot be read."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "no such file"
    if error.errno == errno.EISDIR:
        return "is a folder, not a file"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "this user may not read it"
    return f"cannot be read, {_reason(error)}"


def check_file(path: Path, what: str, error: type[RecsError] = DataError, *, made: bool = False) -> None:
    """Raise `error` unless a file can be written at `path`, over an ordinary file at most. `what` goes into it, as in
    "the answers". `made`: whoever writes it makes its folder, which must be there else."""
    if path.is_dir():
        raise error(f"{path}: is a folder; name the file of {what}")
    if path.exists() and not path.is_file():
        raise error(f"{path}: is no ordinary file, and would be replaced; name a file for {what}")
    _check_above(path, error)
    if not made and not path.absolute().parent.is_dir():
        raise error(f"{path}: its folder is not there; `mkdir -p {shlex.quote(str(path.parent))}`")


def check_folder(path: Path, asks: str, error: type[RecsError] = DataError) -> None:
    """Raise `error` unless `path` is a folder that may be written in, or one can be made there. `asks`: the option that
    names it."""
    if path.exists() and not path.is_dir():
        raise error(f"{path}: is a file; name a folder for {asks}")
    _check_above(path / "any", error)


def _check_above(path: Path, error: type[RecsError]) -> None:
    """Raise `error` where the nearest of the folders above that is there takes nothing."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise error(f"{path}: {above} is a file, not a folder; name another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise error(f"{path}: nothing may be written in {above}; name another place")


def replace(path: Path, fill: Callable[[Path], object]) -> None:
    """What `fill` writes at the path that it is given becomes the file at `path`, once all of it is on the disk.

    Raises `DataError` where it cannot be written; then nothing is left of it.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        try:
            fill(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An `OSError` within is a `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written, {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """The system's own words for it, whoever raised it: pyarrow has others."""
    return one_line(error) if error.errno is None else os.strerror(error.errno)
