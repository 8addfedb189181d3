"""Options that several commands share, and the `DataSpec` they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pathlib

    from recs_core.experiment import DataSpec

Source = Annotated[str, typer.Argument(help="A data set's name (recs data list), a store, or a CSV or Parquet file.")]
Query = Annotated[str | None, typer.Option(help="The file's column of query ids, such as customer_id.")]
Candidate = Annotated[str | None, typer.Option(help="The file's column of candidate ids, such as item_id.")]
Timestamp = Annotated[str | None, typer.Option(help="The file's column of times.")]
Weight = Annotated[str | None, typer.Option(help="The file's column of weights: how much a row counts in training.")]
Negatives = Annotated[
    str | None, typer.Option(help="The file's list column of candidates that were shown and not taken.")
]
Unit = Annotated[str | None, typer.Option(help="What the times count since 1970, if numbers: s, ms, us or ns.")]
Queries = Annotated[str | None, typer.Option(help="File of query features, or the file's own columns: country,age.")]
Candidates = Annotated[
    str | None, typer.Option(help="File of candidate features, or the file's own columns: title,price.")
]
Encoding = Annotated[str | None, typer.Option(help="How a CSV file is written, such as latin-1; UTF-8 by default.")]
Delimiter = Annotated[str | None, typer.Option(help="What lies between a CSV file's fields; by default recognised.")]
Null = Annotated[
    list[str] | None,
    typer.Option(
        "--null",
        help="A word for a missing value in a CSV file, instead of NA, NULL, nan and their like; may be given several "
        "times, '' for none.",
    ),
]
Lists = Annotated[
    list[str] | None,
    typer.Option(
        "--list",
        help="A column of lists in a CSV file and what lies between their values, as in 'categories=|'; may be given "
        "several times.",
    ),
]
Path = Annotated[str | None, typer.Option(help="Where a data set that we may not ship lies on this machine.")]
MinPerQuery = Annotated[int | None, typer.Option(min=1, help="Drop queries with fewer rows, until it holds.")]
MinPerCandidate = Annotated[int | None, typer.Option(min=1, help="Drop candidates with fewer rows, until it holds.")]
Split = Annotated[str | None, typer.Option(help="time, last, random, or none.")]
At = Annotated[str | None, typer.Option(help="Split by time: rows from this date on are the test.")]
Test = Annotated[float | None, typer.Option(help="Share of rows that are the test.")]
Device = Annotated[
    str | None, typer.Option(help="Where to compute, as in cpu, cuda or cuda:1; `recs doctor` says what there is.")
]
Validation = Annotated[float | None, typer.Option(help="Share of training rows held out to validate while training.")]


def data_spec(source: str, split: str | None = None, **given: Any) -> DataSpec:
    """The cut that goes with a data set, changed by what was given. Raises `ConfigError`."""
    from dataclasses import replace

    from recs_core.contract.errors import ConfigError
    from recs_core.experiment import PROTOCOLS, DataSpec

    changes = {name: value for name, value in given.items() if value is not None}
    if "null_values" in changes:
        changes["null_values"] = words(changes["null_values"])
    if "lists" in changes:
        changes["lists"] = dict(_column_and_sign(text) for text in changes["lists"])
    for side in {"queries", "candidates"} & set(changes):
        changes[side] = _file_or_columns(changes[side])
    if split is not None:
        if split not in ("time", "last", "random", "none"):
            raise ConfigError(f"--split is time, last, random or none, got {split!r}")
        changes["split"] = None if split == "none" else split
    base = PROTOCOLS.get(source, DataSpec(source))
    if "split" in changes or "test" in changes:
        base = replace(base, at=None)
    return replace(base, **changes)


def parquet_out(path: pathlib.Path, option: str, force: bool) -> pathlib.Path:
    """The path of a Parquet file to write. Raises `ConfigError` for another ending, where none can be written, and
    without --force for one that is there; its folder is for whoever writes it to see to."""
    from recs_core.contract.errors import ConfigError
    from recs_core.storage.paths import local
    from recs_core.storage.whole import check_file

    out = local(path, option)
    if out.suffix.lower() not in ("", ".parquet", ".pq"):
        raise ConfigError(f"{option} is written as Parquet, got {out.name!r}; name it {out.stem}.parquet")
    check_file(out, option, ConfigError, made=True)
    if out.exists() and not force:
        raise ConfigError(f"{out} exists; choose another {option}, or --force to replace it")
    return out


def words(null: list[str] | None) -> tuple[str, ...] | None:
    """`--null` as `null_values`: the empty word alone stands for none."""
    return None if null is None else tuple(word for word in null if word)


def _column_and_sign(text: str) -> tuple[str, str]:
    from recs_core.contract.errors import ConfigError

    column, _, between = text.partition("=")
    if not column or not between:
        raise ConfigError(f"--list is COLUMN=SIGN, as in --list 'categories=|', got {text!r}")
    return column, between


def _file_or_columns(text: str) -> str | tuple[str, ...]:
    """A file as it is, for that is what has an ending or lies in a folder; else names of columns."""
    import os

    name = os.path.basename(text)
    return text if name != text or "." in name else tuple(part.strip() for part in text.split(","))
