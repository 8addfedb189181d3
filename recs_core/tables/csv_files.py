"""CSV files as they come: encodings, delimiters and words for "missing", recognised or refused with what to type."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recs_core.contract.batch import offsets_of
from recs_core.contract.errors import DataError
from recs_core.contract.messages import one_line
from recs_core.contract.plain import list_array, list_lengths
from recs_core.storage.whole import why_unread

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".dat", ".dat.gz")

NULL_WORDS = ("NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "Null", "null", "NaN", "NAN", "nan", "NaT", "None", "\\N")
"""What stands for a missing value where `null_values` does not say otherwise; an empty field always does."""

_DELIMITERS = (",", ";", "\t", "||", "|", "::")
_HEADER = re.compile(rb"[^\r\n]+")
_UNIT = "\x1f"  # a delimiter of one character for the parser, where the file's has more

_MARKS = (  # the longer ones first: UTF-32's begins as UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Dialect:
    """How CSV files are written; None leaves it to the file.

    `encoding`: a codec of Python's; None: UTF-8, or what the file's byte order mark says. `delimiter`: None: the one
    of `,` `;` tab `|` `||` `::` that gives a header with the columns asked for. `null_values`: words for a missing
    value; None: `NULL_WORDS`, (): none. An empty field is always missing. `lists`: column → what lies between the
    values of its lists; None: no column holds lists.
    """

    encoding: str | None = None
    delimiter: str | None = None
    null_values: Sequence[str] | None = None
    lists: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if self.delimiter is not None:
            if not isinstance(self.delimiter, str) or not self.delimiter or set(self.delimiter) & set('\r\n"'):
                raise DataError(f"delimiter: must be what lies between two fields, such as ';', got {self.delimiter!r}")
            object.__setattr__(self, "delimiter", _tabs(self.delimiter))
        if self.lists is not None:
            object.__setattr__(self, "lists", _checked_lists(self.lists))
        words = self.null_values
        if words is None:
            return
        if isinstance(words, str) or not isinstance(words, Sequence) or not all(isinstance(w, str) for w in words):
            raise DataError(f"null_values: must be a list of words, such as ['NA', '-'], or (), got {words!r}")
        object.__setattr__(self, "null_values", tuple(words))

    def __bool__(self) -> bool:
        """Whether anything was said."""
        return any(said is not None for said in (self.encoding, self.delimiter, self.null_values, self.lists))

    @property
    def nulls(self) -> list[str]:
        """Every word for a missing value, the empty one first."""
        words = NULL_WORDS if self.null_values is None else self.null_values
        return ["", *(word for word in words if word)]


def _checked_lists(lists: Any) -> Mapping[str, str]:
    if not isinstance(lists, Mapping) or not all(isinstance(name, str) and name for name in lists):
        raise DataError(f"lists: must be columns and what lies between their values, as {{'tags': '|'}}, got {lists!r}")
    for name, between in lists.items():
        if not isinstance(between, str) or not between or set(between) & set("\r\n"):
            raise DataError(f"lists: between the values of {name!r} lies text, such as '|', not {between!r}")
    return {name: _tabs(between) for name, between in lists.items()}


def _tabs(text: str) -> str:
    """Tabs, which a shell hands on as they are typed."""
    return text.replace("\\t", "\t")


def _check_encoding(name: str) -> None:
    try:
        "a".encode(name)
    except (LookupError, TypeError, ValueError):
        raise DataError(
            f"encoding: {name!r} is none that Python reads text in; say one such as 'latin-1', 'cp1252' or 'utf-16'"
        ) from None


def read_csv(path: Path, ids: tuple[str, ...], dialect: Dialect) -> pa.Table:
    """The file's table, its `ids` as strings. Raises `DataError` naming the line, and what to type."""
    data = _decoded(path, _bytes(path), dialect.encoding)
    if not re.search(rb"\S", data):
        raise DataError(f"{path}: empty file")
    stated = _stated(data)
    if stated:
        data = data[data.index(b"\n") + 1 :]
    delimiter = dialect.delimiter or stated or _recognised(data, ids, "\t" if ".tsv" in path.name.lower() else ",")
    if len(delimiter.encode()) > 1:
        if _UNIT.encode() in data:
            raise DataError(f"{path}: holds control characters, so it cannot be cut at {delimiter!r}")
        data, delimiter = data.replace(delimiter.encode(), _UNIT.encode()), _UNIT
    lists = dialect.lists or {}
    texts = {*ids, *lists}
    table = _parsed(path, data, delimiter, texts, dialect.nulls)
    # Integers beyond int64 are guessed to be floats, and lose their last digits: they are names, so text.
    names = {name for name, column in zip(table.column_names, table.itercolumns(), strict=True) if _too_long(column)}
    if names:
        table = _parsed(path, data, delimiter, texts | names, dialect.nulls)
    for name in set(lists) & set(table.column_names):
        if table.column_names.count(name) == 1:  # a column that stands twice is refused by whoever asked
            table = table.set_column(table.column_names.index(name), name, _split(table[name], lists[name]))
    return table


def _bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable file ({one_line(error)})") from None
    except OSError as error:
        raise DataError(f"{path}: {why_unread(error)}") from None


def _decoded(path: Path, data: bytes, encoding: str | None) -> bytes:
    """The file as UTF-8 without a mark."""
    encoding = encoding or _marked(data)
    if encoding is None and data.isascii():
        return data
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        odd = f"line {line} is not {(encoding or 'utf-8').upper()} (byte 0x{data[error.start]:02x})"
        raise DataError(
            f"{path}: {odd}; say how it is written, such as encoding='latin-1' or 'cp1252' (on the shell --encoding "
            "latin-1)"
        ) from None
    return data if encoding is None else text.removeprefix("\ufeff").encode()


def _marked(data: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    head = data[:64]
    if len(head) >= 4 and not any(head[1::2]):
        return "utf-16-le"
    if len(head) >= 4 and not any(head[::2]):
        return "utf-16-be"
    return None


def _stated(data: bytes) -> str | None:
    """The delimiter of a first line such as `sep=;`, which Excel reads."""
    said = re.match(rb"sep=([ -~\t])\r?\n", data, re.IGNORECASE)
    return said[1].decode() if said else None


def _recognised(data: bytes, ids: tuple[str, ...], usual: str) -> str:
    """The delimiter whose header holds the columns asked for; the usual one where none does, which names them."""
    head = (_HEADER.search(data) or [b""])[0].decode()
    for delimiter in (usual, *_DELIMITERS):
        if set(ids) <= set(_fields(head, delimiter)):
            return delimiter
    counts = {delimiter: len(_fields(head, delimiter)) for delimiter in (usual, *_DELIMITERS)}
    return max(counts, key=lambda delimiter: counts[delimiter])  # the first of those that split most


def _fields(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


def _parsed(path: Path, data: bytes, delimiter: str, texts: set[str], nulls: list[str]) -> pa.Table:
    import pyarrow.csv as pacsv  # here: a twentieth of a second that serving a bundle does without

    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in data)
    convert = pacsv.ConvertOptions(
        column_types=dict.fromkeys(texts, pa.string()), null_values=nulls, strings_can_be_null=True
    )
    try:
        try:
            # One thread: only then does a message hold the line number.
            return pacsv.read_csv(pa.BufferReader(data), pacsv.ReadOptions(use_threads=False), parse, convert)
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error):
                raise
        whole = pacsv.ReadOptions(use_threads=False, block_size=min(len(data) + 1, 2**31 - 1))  # for a field so long
        return pacsv.read_csv(pa.BufferReader(data), whole, parse, convert)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a readable CSV file ({one_line(error)})") from None


def _split(column: pa.ChunkedArray, between: str) -> pa.ChunkedArray:
    """Each field as a list: its parts trimmed, empty ones left out; a missing field is an empty list."""
    return pa.chunked_array([_split_chunk(chunk, between) for chunk in column.chunks], pa.list_(pa.string()))


def _split_chunk(fields: pa.StringArray, between: str) -> pa.ListArray:
    lists = pc.split_pattern(fields, between)
    parts = pc.utf8_trim_whitespace(lists.flatten())
    kept = pc.not_equal(parts, "")
    before = offsets_of(kept.to_numpy(zero_copy_only=False))  # parts kept before each part
    return list_array(before[offsets_of(list_lengths(lists))], parts.filter(kept))


def _too_long(column: pa.ChunkedArray) -> bool:
    if not pa.types.is_floating(column.type):
        return False
    ends = pc.min_max(column).as_py()
    return any(end is not None and 2**63 <= abs(end) < 2**64 for end in ends.values())
