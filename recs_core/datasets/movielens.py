"""MovieLens-100K, read from where the user has it: its licence does not let anyone pass it on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from recs_core.contract.errors import DataError
from recs_core.contract.messages import one_line
from recs_core.data.interactions import Interactions
from recs_core.storage.paths import local

_WHERE = (
    "download ml-100k.zip from https://grouplens.org/datasets/movielens/100k/, unpack it, and pass its folder: "
    'load("movielens-100k", path="ml-100k")'
)
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def load(path: str | Path | None = None) -> Interactions:
    """100,000 ratings: query `user_id`, candidate `movie_id` (int64), `timestamp`, and `rating` as an extra column.

    `path`: GroupLens's folder (u.data, u.item, u.user) or one with RecBole's atomic files (ml-100k.inter, .item,
    .user). Queries have `age`, `gender`, `occupation`; candidates `title`, `year` (null if unknown), `genres`.
    Raises `DataError` if there is no such folder, naming where to get it, or if a file is damaged.
    """
    if path is None:
        raise DataError(f"movielens-100k is not shipped with this package: {_WHERE}")
    folder = local(path, "load('movielens-100k', path=…)", DataError)
    if (folder / "u.data").is_file():
        ratings, users, movies = _grouplens(folder)
    elif (folder / "ml-100k.inter").is_file():
        ratings, users, movies = _recbole(folder)
    else:
        raise DataError(f"{folder}: neither u.data nor ml-100k.inter is in it; {_WHERE}")
    return Interactions.from_table(
        ratings, query="user_id", candidate="movie_id", timestamp="timestamp", queries=users, candidates=movies
    )


def _grouplens(folder: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    ratings = _read(folder / "u.data", "\t", ["user_id", "movie_id", "rating", "timestamp"])
    users = _read(folder / "u.user", "|", ["user_id", "age", "gender", "occupation", "zip_code"])
    columns = ["movie_id", "name", "released", "video_released", "url", *_GENRES]
    movies = _read(folder / "u.item", "|", columns)
    flags = [movies[genre].to_pylist() for genre in _GENRES]
    genres = [[genre for genre, on in zip(_GENRES, row, strict=True) if on] for row in zip(*flags, strict=True)]
    # "Toy Story (1995)" → "Toy Story", 1995, as RecBole has them
    parts = pc.extract_regex(movies["name"], r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?$").combine_chunks()
    table = {"movie_id": movies["movie_id"], "title": parts.field("title"), "year": _year(parts.field("year"))}
    return ratings, users, pa.table(table | {"genres": pa.array(genres, pa.list_(pa.string()))})


def _recbole(folder: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    ratings = _read(folder / "ml-100k.inter", "\t")
    users = _read(folder / "ml-100k.user", "\t")
    movies = _read(folder / "ml-100k.item", "\t")
    table = {
        "movie_id": movies["item_id"],
        "title": movies["movie_title"],
        "year": _year(movies["release_year"].cast(pa.string())),
        "genres": pa.array([text.split() for text in movies["class"].to_pylist()], pa.list_(pa.string())),
    }
    return ratings.rename_columns({"item_id": "movie_id"}), users, pa.table(table)


def _read(path: Path, delimiter: str, columns: list[str] | None = None) -> pa.Table:
    """A file of either kind; without `columns` its first line names them, as `user_id:token`."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; {_WHERE}")
    data = path.read_bytes()
    if columns is None:
        head, _, data = data.partition(b"\n")
        columns = [name.partition(":")[0] for name in head.decode("latin-1").strip().split(delimiter)]
    # RecBole's files are UTF-8, GroupLens's Latin-1.
    how = pacsv.ReadOptions(column_names=columns, use_threads=False, encoding="utf8" if _is_utf8(data) else "latin-1")
    try:
        return pacsv.read_csv(pa.BufferReader(data), how, pacsv.ParseOptions(delimiter=delimiter, quote_char=False))
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a file of MovieLens-100K ({one_line(error)})") from None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _year(text: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """int64 years; null where the text is not four digits."""
    return pc.if_else(pc.match_substring_regex(text, r"^\d{4}$"), text, None).cast(pa.int64())
