"""The files of a bundle: their names, and how they are opened so that nothing foreign gets in.

Data files are named after their content (`weights-0f3a….safetensors`). What the manifest does not name is no part of
the bundle.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from recs_core.contract.errors import BundleError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

MANIFEST = "manifest.json"
CARD = "README.md"
CARD_LIMIT = 1 << 20
"""Bytes of a model card."""
DATA_FILE = re.compile(r"[a-z]+-([0-9a-f]{16})\.(safetensors|arrow)")
_LEFTOVER = re.compile(
    rf"{DATA_FILE.pattern}|[a-z]+(\.[0-9]+)?\.(safetensors|arrow)\.tmp|{re.escape(MANIFEST)}\.tmp|{re.escape(CARD)}\.tmp"
)

# Never through a symbolic link, never waiting for the other end of a pipe.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def opened(path: Path) -> int:
    """A descriptor of a regular file. Raises `BundleError` for one that is missing, a link, a folder or a device."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        raise BundleError(f"{path}: missing") from None
    except OSError as error:
        why = (
            "is a symbolic link, which a bundle never holds"
            if path.is_symlink()
            else f"cannot be opened, {error.strerror}"
        )
        raise BundleError(f"{path}: {why}") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode) and not path.is_symlink():
        return descriptor
    os.close(descriptor)
    raise BundleError(f"{path}: is not a regular file")


def read_whole(path: Path, limit: int) -> bytes:
    """All bytes of a small file. Raises `BundleError` if it is larger than `limit`."""
    with os.fdopen(opened(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise BundleError(f"{path}: is {size:,} bytes long, the most that is read is {limit:,}")
        return file.read(size)


def mapped(path: Path, length: int) -> mmap.mmap:
    """The file as a read-only memory map. Raises `BundleError` unless it is `length` bytes long."""
    descriptor = opened(path)
    try:
        found = os.fstat(descriptor).st_size
        if found != length or length == 0:
            raise BundleError(f"{path}: is {found:,} bytes long, the manifest says {length:,}")
        return mmap.mmap(descriptor, length, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


def is_as_written(path: Path, length: int, sha256: str) -> bool:
    """Whether a small file is there and has this content; no more than `CARD_LIMIT` bytes are read."""
    try:
        descriptor = opened(path)
    except BundleError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        if length > CARD_LIMIT or os.fstat(descriptor).st_size != length:
            return False
        return hashlib.sha256(file.read(length)).hexdigest() == sha256


def check_digest(path: Path, content: Buffer, sha256: str) -> None:
    """Raise `BundleError` unless the content has this SHA-256."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError.damaged(path, "its SHA-256 is not the one in the manifest")


def others(folder: Path, named: Iterable[str]) -> tuple[list[str], list[str]]:
    """What lies in the folder beside the files named: leftovers of a save that was cut off, and what is foreign.

    The card and hidden files, which are for people and their tools, are neither.
    """
    names = sorted(set(os.listdir(folder)) - set(named) - {MANIFEST, CARD})
    visible = [name for name in names if not name.startswith(".")]
    leftovers = [name for name in visible if _LEFTOVER.fullmatch(name)]
    return leftovers, [name for name in visible if not _LEFTOVER.fullmatch(name)]
