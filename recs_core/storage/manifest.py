"""manifest.json: what a bundle is, which files are part of it, and the digests that hold them together.

The last field, `digest`, is the SHA-256 of every byte before its own hexadecimal digits; nothing but `"`, a line break
and `}` and a line break follows them. So no byte of the manifest can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recs_core.contract.errors import BundleError
from recs_core.storage.files import DATA_FILE, MANIFEST, read_whole
from recs_core.storage.strict import parse_object

FORMAT = "recs-core bundle"
VERSION = 1
LIMIT = 16 << 20
"""Bytes of a manifest."""

OWN = ("format", "version", "digest")
"""The fields that `encode` adds."""

_TAIL = b'"\n}\n'
_SHA256 = re.compile(r"[0-9a-f]{64}")


def encode(folder: Path, fields: Mapping[str, Any]) -> bytes:
    """The file for these fields; `format` and `version` come first, `digest` last.

    Raises `BundleError` for what `read` would refuse: NaN, text that is not Unicode, too many bytes.
    """
    path, whole = folder / MANIFEST, {"format": FORMAT, "version": VERSION, **fields, "digest": ""}
    try:
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BundleError(f"{path}: cannot hold what it should say, {error}") from error
    if len(text) + len(hashlib.sha256().hexdigest()) > LIMIT:
        raise BundleError(f"{path}: would be {len(text):,} bytes long, the most that is read is {LIMIT:,}")
    head = text[: -len('"\n}')]
    return head + hashlib.sha256(head).hexdigest().encode() + _TAIL


def read(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The manifest of a folder, as bytes and as fields.

    Raises `BundleError` for a folder that is no bundle, one from a newer version, and any damage.
    """
    path = folder / MANIFEST
    if not path.exists() and not path.is_symlink():
        if not folder.is_dir():
            raise BundleError(f"{folder}: {'is a file; a bundle is a folder' if folder.exists() else 'no such folder'}")
        inside = folder / "bundle"
        hint = f"; {inside} is one" if is_bundle(inside) else ", or its first save was cut off: save it anew"
        raise BundleError(f"{path}: missing; {folder} is no bundle{hint}")
    data = read_whole(path, LIMIT)
    fields = parse_object(data, str(path))
    _check_version(path, fields)
    _check_digest(path, data)
    _check_files(path, fields)
    return data, fields


def is_bundle(folder: Path) -> bool:
    """Whether a save into the folder was ever finished."""
    return (folder / MANIFEST).exists()


def named_files(folder: Path) -> list[str]:
    """The data files that the folder's manifest names; none where there is no manifest."""
    if not is_bundle(folder):
        return []
    return list(read(folder)[1]["files"])


def _check_version(path: Path, fields: Mapping[str, Any]) -> None:
    if fields.get("format") != FORMAT:
        raise BundleError(f"{path}: format is {fields.get('format')!r}; this is no bundle of recs-core")
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise BundleError(f"{path}: version is {version!r}, which no recs-core ever wrote")
    if version > VERSION:
        raise BundleError(f"{path}: is of format version {version}, this recs-core reads up to {VERSION}; upgrade it")


def _check_digest(path: Path, data: bytes) -> None:
    head, digest, tail = data[:-68], data[-68:-4], data[-4:]
    if tail != _TAIL or hashlib.sha256(head).hexdigest().encode() != digest or not head.endswith(b'"digest": "'):
        raise BundleError.damaged(path, "its digest does not fit its content")


def _check_files(path: Path, fields: Mapping[str, Any]) -> None:
    files = fields.get("files")
    if not isinstance(files, dict):
        raise BundleError(f"{path}: files must be an object")
    for name, facts in files.items():
        form = DATA_FILE.fullmatch(name)
        if form is None:
            form_of_names = "<kind>-<16 hex digits>.safetensors or .arrow"
            raise BundleError(f"{path}: names a file {name!r}, which is not of the form {form_of_names}")
        length, sha256 = (facts.get("length"), facts.get("sha256")) if isinstance(facts, dict) else (None, None)
        if type(length) is not int or length < 1 or not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
            raise BundleError(f"{path}: {name!r} needs its length and its SHA-256")
        if not sha256.startswith(form[1]):
            raise BundleError(f"{path}: {name!r} is not named after its SHA-256, {sha256}")
