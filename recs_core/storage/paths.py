"""Every path that the library is given comes through `local`: `~` is a home folder, a URL is refused, never created."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Any

from recs_core.contract.errors import ConfigError, RecsError

# Two letters or more, as one is a drive of Windows; one slash is enough, as `Path` takes the other away.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)

_TOOLS = {
    "s3": "aws s3 cp --recursive",
    "gs": "gcloud storage cp --recursive",
    "az": "azcopy copy --recursive",
    "abfs": "azcopy copy --recursive",
    "wasb": "azcopy copy --recursive",
    "hdfs": "hdfs dfs -put, hdfs dfs -get",
    "http": "curl",
    "https": "curl",
}
"""Scheme → what copies between such a store and a disk."""


def local(path: Any, asks: str, error: type[RecsError] = ConfigError) -> Path:
    """A path on this machine, with `~` and `~user` expanded.

    `path`: text or `os.PathLike`. `asks`: the call or option that takes it, for the message. Raises `error` for a URL
    (`s3://…`, `file://…`), an unknown home, blank text, a NUL, what is no path, and one that the system cannot look up,
    being too long or a circle of links; nothing is touched on disk.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise error(f"{asks}: a path is text or a pathlib.Path, got {_brief(path)}")
    if not text.strip() or "\0" in text:
        raise error(f"{asks}: {text!r} is no path; name a file or a folder")
    url = _URL.match(text)
    if url is not None:
        raise error(f"{asks}: {_refusal(url[1], url[2])}")
    if text.startswith("~"):
        expanded = os.path.expanduser(text)  # `Path` would take the ./ off a name that begins with ~
        if expanded.startswith("~"):
            raise error(
                f"{asks}: {text!r} names no home folder here; write the whole path, or './{text}' for that name"
            )
        text = expanded
    _look_up(text, f"{asks}: {_shortened(text)!r}", error)
    return Path(text)


def _look_up(text: str, what: str, error: type[RecsError]) -> None:
    """Raise `error` for a path that no file can have here; whether there is one is not asked."""
    try:
        with contextlib.suppress(PermissionError, FileNotFoundError, NotADirectoryError):
            os.stat(text)
    except OSError as found:
        if found.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise error(f"{what} cannot be a path here: {found.strerror}") from None
    except ValueError as found:  # text that no file name can hold
        raise error(f"{what} cannot be a path here: {found}") from None


def _refusal(scheme: str, rest: str) -> str:
    scheme = scheme.lower()
    if scheme == "file":
        return f"'file://…' is a URL; write the path itself, {'/' + rest!r}"
    kin = next((name for name in _TOOLS if name == scheme or scheme in (f"{name}a", f"{name}n", f"{name}s")), None)
    tool = f" ({_TOOLS[kin]})" if kin is not None else ""
    return (
        f"'{scheme}://{rest}' is a URL, not a path on this machine; name a local one and copy with the store's own "
        f"tool{tool}, or mount the store"
    )


def _brief(value: Any) -> str:
    return f"{type(value).__name__} {_shortened(repr(value))}" if value is not None else "None"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
