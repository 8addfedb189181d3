"""Ten users rate five movies each: the data of a published comparison of TFRS and TorchRS, drawn as it draws them."""

from __future__ import annotations

import numpy as np

from recs_core.data.interactions import Interactions

USERS = 10
MOVIES = 20
RATINGS_PER_USER = 5


def load() -> Interactions:
    """50 rows (`user_id`, `movie_id`, `rating`), ids "0" to "9" and "0" to "19"; movies 6 and 14 are in no row."""
    # The report calls np.random.seed(42); the same stream, without touching the caller's generator.
    random = np.random.RandomState(42)
    users, movies, ratings = [], [], []
    for user in range(USERS):
        for movie in random.choice(MOVIES, size=RATINGS_PER_USER, replace=False):
            users.append(str(user))
            movies.append(str(movie))
            ratings.append(float(random.randint(1, 6)))
    return Interactions.from_table(
        {"user_id": users, "movie_id": movies, "rating": ratings},
        query="user_id",
        candidate="movie_id",
        candidates={"movie_id": [str(movie) for movie in range(MOVIES)]},
    )
