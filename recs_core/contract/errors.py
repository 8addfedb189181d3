"""Every error that recs-core raises on purpose.

Each message is one line that names what is wrong, where, who asked, and what to type next. The command
line prints that line and exits with code 2; it never shows a traceback for a `RecsError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self


class RecsError(Exception):
    """Base of all errors of this project."""


class SpecError(RecsError, ValueError):
    """A declaration (feature, tower, retrieval, optimizer, training) that cannot be meant."""


class DataError(RecsError, ValueError):
    """Data that cannot be used: names the table, column and row, id or file. `argument`: which one of the call it is
    about, where whoever read that said so."""

    def __init__(self, message: str = "", argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


@contextmanager
def about(argument: str, instead_of: str | None = None) -> Iterator[None]:
    """A `DataError` from within is about this argument: where it is about none, or about `instead_of`."""
    try:
        yield
    except DataError as error:
        if error.argument == instead_of:
            error.argument = argument
        raise


class BadRows(DataError):
    """Some of a feature's values cannot be used. Whoever knows the ids says which ones, from `mask` (n,)."""

    def __init__(self, where: str, mask: Any, what: str, cure: str) -> None:
        self.where, self.mask, self.what, self.cure = where, mask, what, cure
        rows = [row for row, bad in enumerate(mask) if bad]
        super().__init__(f"{where}: {len(rows)} of {len(mask)} rows {what}, the first is row {rows[0]}; {cure}")


class ConfigError(RecsError, ValueError):
    """A setting, file or environment variable that cannot be read or names nothing known."""


class BackendNotFound(RecsError, LookupError):
    """No installed distribution registers the backend, index or engine that was asked for."""


class BackendBroken(RecsError, ImportError):
    """A registered plugin cannot be loaded: its import, its hooks or its manifest fails."""


class BackendConflict(RecsError, RuntimeError):
    """Two sides want different things: rival distributions, engines or environments. Names both."""


class UnsupportedFeature(RecsError, NotImplementedError):
    """A capability that the backend or index declares it lacks, with the reason it declares."""


class MissingExtra(RecsError, ImportError):
    """An optional dependency is not installed. Names it and the command that installs it."""


class NotFitted(RecsError, RuntimeError):
    """The model has no weights yet: call `fit` or `load` first."""


class TrainingError(RecsError, RuntimeError):
    """Training cannot go on, as when the loss is not finite. Names the epoch and the batch."""


class WorkerLost(TrainingError):
    """A worker that the others wait for is gone or hangs. Names it, what they waited for, and who asked."""


class BundleError(RecsError, ValueError):
    """A saved bundle that is damaged, foreign, from a newer version, or cannot be written."""

    @classmethod
    def damaged(cls, where: object, why: str) -> Self:
        """Of a file that is not what was written, and what to do about it."""
        return cls(f"{where}: is damaged, {why}; copy it anew from where it is whole, or make it again")


class IndexUnreachable(RecsError, ConnectionError):
    """An index that lies on a server which does not answer. Names the server and what says where it is."""
