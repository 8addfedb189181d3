"""TFRS's tutorial "context features", moved: the time of a rating beside the user, kept as it is, and declared.

A model that reads the time is asked once per rating, one that does not once per user, so their metrics are averages of
different things. python examples/tfrs_context_features.py [the folder of MovieLens-100K]
"""

import sys

import numpy as np
from recs_core_tensorflow import tf
from tfrs_movies import ratings

import recs_core as recs

DIM, BUCKETS = 32, 1000
SPEC = recs.RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, reduction="sum")


def kept(users: list[str], seconds: np.ndarray, *, timed: bool) -> recs.Adopted:
    """The tutorial's user model: an embedding of the id, of the time's bucket, and the time normalised."""
    raw = {"user_id": tf.keras.Input((), dtype=tf.string), "timestamp": tf.keras.Input((1,))}
    ids = tf.keras.layers.StringLookup(vocabulary=users, mask_token=None)(raw["user_id"])
    parts = [tf.keras.layers.Embedding(len(users) + 1, DIM)(ids)]
    if timed:
        normal = tf.keras.layers.Normalization(axis=None, mean=seconds.mean(), variance=seconds.var())
        buckets = np.linspace(seconds.min(), seconds.max(), BUCKETS).tolist()
        bucket = tf.keras.layers.Discretization(buckets)(raw["timestamp"][:, 0])
        parts += [tf.keras.layers.Embedding(BUCKETS + 1, DIM)(bucket), normal(raw["timestamp"])]
    model = tf.keras.Model(raw, tf.keras.layers.Dense(DIM)(tf.concat(parts, 1)))
    reads = [recs.Categorical("user_id"), recs.Numeric("timestamp", standardise=False)]  # seconds, as the layers want
    return recs.Adopted(model, reads, raw_ids=True)


def declared(seconds: np.ndarray, *, timed: bool) -> recs.TowerSpec:
    """The same, and the hour and the weekday, which a line of time cannot tell."""
    features: list[recs.Feature] = [recs.Categorical("user_id", DIM)]
    return recs.TowerSpec([*features, recs.Clock("timestamp")] if timed else features, layers=[DIM])


def main() -> None:
    """Print how much the time of a rating says, both ways, and what one user is recommended at two times."""
    rows = ratings(*sys.argv[1:])
    data = recs.Interactions.from_table(rows, query="user_id", candidate="movie_title", timestamp="timestamp")
    train, test = data.split(by="random", test=0.2)
    users, seconds = sorted(train.query_ids.ids.to_pylist()), train.timestamps
    movies = recs.TowerSpec([recs.Categorical("movie_title", DIM)], layers=[DIM])
    tf.keras.utils.set_random_seed(42)
    for timed in (False, True):
        for way, query in (("kept", kept(users, seconds, timed=timed)), ("declared", declared(seconds, timed=timed))):
            model = recs.TwoTower(query, movies, SPEC, recs.Adagrad(0.1), backend="tensorflow")
            model.fit(train, epochs=5, batch_size=1024, progress=False)
            metrics = model.evaluate(test, exclude=train, k=(100,))
            print("timed" if timed else "plain", way, f"recall@100 {metrics['recall@100']:.3f}", sep="   ")
    for at in (seconds.min(), seconds.max()):
        print("  user 42", *model.recommend(["42"], k=3, at=at).ids[0], sep=" | ")


if __name__ == "__main__":
    main()
