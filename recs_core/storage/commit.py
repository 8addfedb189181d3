"""A save: written so that a crash leaves the old or the new.

Data files are named after their content, so a new one never overwrites another. The commit is one rename, of
`manifest.json`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recs_core.contract.errors import BundleError
from recs_core.storage.files import CARD, MANIFEST, others
from recs_core.storage.manifest import named_files

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

log = logging.getLogger("recs_core")

# Never through a symbolic link.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Commit:
    """One save into a folder: `add` data files, then `finish` with the manifest that names them.

    Several may add to one folder at once, each as a `writer` of its own name; who finishes takes up what they added.
    """

    def __init__(self, folder: Path, descriptor: int | None, writer: str = "") -> None:
        self.folder = folder
        self._descriptor, self._writer = descriptor, writer
        self.files: dict[str, dict[str, int | str]] = {}

    def add(self, kind: str, suffix: str, pieces: Iterable[Buffer]) -> str:
        """Write a data file; its name, `<kind>-<first 16 hex digits of its SHA-256>.<suffix>`."""
        temporary = self.folder / f"{kind}{self._writer}.{suffix}.tmp"
        length, sha256 = _write(temporary, pieces)
        name = f"{kind}-{sha256[:16]}.{suffix}"
        _replace(temporary, self.folder / name)
        self.files[name] = {"length": length, "sha256": sha256}
        return name

    def finish(self, manifest: bytes, card: bytes) -> None:
        """Make what was added the bundle: from here on readers see it, also after a power cut.

        The card comes last, and the bundle stands without it: what keeps it from being written is a warning.
        """
        temporary = self.folder / f"{MANIFEST}.tmp"
        _write(temporary, [manifest])
        self._sync()  # names of data files reach the disk before the manifest that relies on them
        _replace(temporary, self.folder / MANIFEST)
        self._sync()
        try:
            _write(self.folder / f"{CARD}.tmp", [card])
            _replace(self.folder / f"{CARD}.tmp", self.folder / CARD)
        except BundleError as error:
            log.warning("%s; the bundle is saved and whole, only its card is missing", error)

    def _sync(self) -> None:
        if self._descriptor is not None:
            with _writing(self.folder):
                os.fsync(self._descriptor)


@contextlib.contextmanager
def committing(folder: Path) -> Iterator[Commit]:
    """A commit into a folder, made if need be. Leaving the block with an error takes back what was added.

    Raises `BundleError` if the folder is no bundle and not empty, another process is saving into it, or the disk fails.
    """
    made = _made(folder)
    try:
        with _locked(folder) as descriptor:
            _refuse_foreign(folder)
            commit = Commit(folder, descriptor)
            try:
                yield commit
            except BaseException:
                _collect(folder, added=commit.files)  # never old files: the disk may still hold the old manifest
                raise
            _collect(folder)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise


def take_back(folder: Path) -> None:
    """Remove from a folder what its manifest does not name, and the folder where nothing is left in it: of a save in
    which several wrote and one failed. What cannot be removed stays, and is no part of the bundle."""
    with contextlib.suppress(BundleError, OSError), _locked(folder):
        _collect(folder)
        os.rmdir(folder)


def _made(folder: Path) -> bool:
    with _writing(folder):
        os.makedirs(folder.parent, exist_ok=True)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not folder.is_dir():
                raise BundleError(f"{folder}: is a file; a bundle is a folder") from None
            return False
        return True


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """A descriptor of the folder, locked against other writers; None where folders cannot be opened."""
    try:
        import fcntl
    except ImportError:  # Windows: neither folder descriptors nor flock
        yield None
        return
    with _writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(f"{folder}: another process is saving into it; wait, or choose another folder") from None
        except OSError as error:
            log.warning("%s: no locks here (%s); let only one process save into it", folder, error.strerror)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_foreign(folder: Path) -> None:
    if (folder / MANIFEST).exists():
        return
    _, foreign = others(folder, ())
    if foreign:
        raise BundleError(f"{folder}: is no bundle and holds {foreign[0]!r}; name a new or empty folder")


def _collect(folder: Path, added: Iterable[str] | None = None) -> None:
    """Remove what is not named by the folder's manifest: all of it, or of data files only those just `added`.

    What cannot be removed stays, and is ignored.
    """
    try:
        leftovers, _ = others(folder, named_files(folder))
    except (BundleError, OSError):
        return  # a manifest that cannot be read may name anything
    for name in leftovers:
        if added is not None and name not in added and not name.endswith(".tmp"):
            continue
        try:
            os.unlink(folder / name)
        except OSError as error:
            log.warning("%s: cannot be removed (%s); it is no part of the bundle", folder / name, error.strerror)


def _write(path: Path, pieces: Iterable[Buffer]) -> tuple[int, str]:
    """Write, sync and close; the number of bytes and their SHA-256."""
    sha, length = hashlib.sha256(), 0
    with _writing(path):
        descriptor = os.open(path, _WRITE, 0o644)
        try:
            for piece in pieces:
                view = memoryview(piece).cast("B")
                for start in range(0, len(view), _PIECE):
                    part = view[start : start + _PIECE]
                    sha.update(part)
                    length += len(part)
                    while part:
                        part = part[os.write(descriptor, part) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return length, sha.hexdigest()


_PIECE = 1 << 20
"""Bytes hashed and written at a time: small enough to stay in cache between the two."""


def _replace(source: Path, target: Path) -> None:
    with _writing(target):
        os.replace(source, target)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "; free some space and save again" if error.errno == errno.ENOSPC else ""
        raise BundleError(f"{path}: cannot be written, {error.strerror or error}{hint}") from error
