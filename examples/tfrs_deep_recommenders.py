"""TFRS's tutorial "deep recommenders", moved: towers of one, two and three layers, kept as they are and declared.

python examples/tfrs_deep_recommenders.py [the folder of MovieLens-100K]
"""

import sys
import tempfile

import numpy as np
import pyarrow.compute as pc
from recs_core_tensorflow import tf
from tfrs_movies import ratings

import recs_core as recs

DIM, BUCKETS, TOKENS = 32, 100, 10_000
layers, Sequential = tf.keras.layers, tf.keras.Sequential


class Deep(tf.keras.Model):
    """Parts side by side, then dense layers, the last of them linear."""

    def __init__(self, parts: list[tuple[str, tf.keras.Model]], sizes: list[int]) -> None:
        super().__init__()
        self.names, self.parts = zip(*parts, strict=True)
        self.deep = Sequential([*(layers.Dense(size, "relu") for size in sizes[:-1]), layers.Dense(sizes[-1])])

    def call(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        parts = zip(self.names, self.parts, strict=True)
        return self.deep(tf.concat([part(inputs[name]) for name, part in parts], axis=1))


def by_id(ids: list[str]) -> tf.keras.Model:
    lookup = layers.StringLookup(vocabulary=ids, mask_token=None)
    return Sequential([tf.keras.Input((), dtype=tf.string), lookup, layers.Embedding(len(ids) + 1, DIM)])


def query(users: list[str], sizes: list[int]) -> Deep:
    """Numbers come standardised: no `Normalization` is needed, and borders of `Discretization` are in deviations."""
    borders = layers.Discretization(np.linspace(-2, 2, BUCKETS - 1).tolist())
    bucket = Sequential([borders, layers.Embedding(BUCKETS, DIM), layers.Flatten()])
    return Deep([("user_id", by_id(users)), ("joined", bucket), ("joined", layers.Flatten())], sizes)


def candidate(titles: list[str], sizes: list[int]) -> Deep:
    words = layers.TextVectorization(max_tokens=TOKENS)
    words.adapt(titles)
    mean = layers.Embedding(TOKENS, DIM, mask_zero=True), layers.GlobalAveragePooling1D()
    text = Sequential([tf.keras.Input((), dtype=tf.string), words, *mean])
    return Deep([("movie_title", by_id(titles)), ("movie_title", text)], sizes)


def main() -> None:
    """Train three depths both ways and print their metrics; recommend by the deepest."""
    table = ratings(*sys.argv[1:])
    first = table.group_by("user_id").aggregate([("timestamp", "min")]).rename_columns(["user_id", "joined"])
    first = first.append_column("joined_too", first["joined"])  # a column that two features read has two names
    titles = pc.unique(table["movie_title"])
    sides = {"queries": first, "candidates": {"movie_title": titles, "words": titles}}
    data = recs.Interactions.from_table(table, query="user_id", candidate="movie_title", **sides)
    train, test = data.split(by="random", test=0.2)

    tf.keras.utils.set_random_seed(42)
    user, movie = recs.Categorical("user_id", DIM), recs.Categorical("movie_title", DIM)
    number, bucket = recs.Numeric("joined"), recs.Bucketed("joined_too", DIM, edges=BUCKETS)
    words = recs.Text("words", DIM)
    spec = recs.RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False)
    for sizes in ([32], [64, 32], [128, 64, 32]):
        users = recs.Adopted(query(first["user_id"].to_pylist(), sizes), [user, number], raw_ids=True)
        movies = recs.Adopted(candidate(titles.to_pylist(), sizes), [movie], raw_ids=True)
        deep = recs.TowerSpec([user, bucket, number], layers=sizes), recs.TowerSpec([movie, words], layers=sizes)
        for way, towers in {"kept": (users, movies), "declared": deep}.items():
            model = recs.TwoTower(*towers, spec, recs.Adam(5e-3), backend="tensorflow")
            model.fit(train, epochs=10, batch_size=1024, progress=False)
            print(sizes, way, f"recall@100 {model.evaluate(test, exclude=train)['recall@100']:.3f}", sep="   ")
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        served = recs.load(folder, runtime="numpy")  # the deepest declared one, with no TensorFlow
        print("user 42", *served.recommend(["42"], k=3, exclude="seen").ids[0], sep=" | ")


if __name__ == "__main__":
    main()
