"""Ratings with the columns of the TFRS tutorials, for the `tfrs_*.py` examples beside this file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recs_core import datasets


def ratings(folder: str | Path | None = None) -> pa.Table:
    """`user_id` and `movie_title` (strings) and `timestamp` (seconds), a row per rating, oldest first: MovieLens-100K
    from the folder of its files, or else 500 users, 400 movies and 15,000 ratings that are drawn from a seed."""
    if folder is None:
        data = datasets.load("synthetic", num_queries=500, num_candidates=400, num_interactions=15_000)
        number = data.candidates["candidate_id"].cast(pa.string())
        title = pc.binary_join_element_wise(data.candidates["title"], number, " ")
    else:
        data = datasets.load("movielens-100k", path=folder)
        title = data.candidates["title"]  # two movies of one title are one candidate, as in the tutorials
    movies = pa.table({"movie": data.candidates[data.candidate_name], "movie_title": title})
    rows = data.to_table().join(movies, data.candidate_name, "movie").sort_by(data.timestamp_name)
    user = pc.replace_substring(rows[data.query_name].cast(pa.string()), "q", "")
    return pa.table({"user_id": user, "movie_title": rows["movie_title"], "timestamp": rows[data.timestamp_name]})
