"""TFRS's tutorial "basic retrieval", moved: its towers kept as they are, and the same towers declared.

python examples/tfrs_basic_retrieval.py [the folder of MovieLens-100K]
"""

import sys
import tempfile

from recs_core_tensorflow import export_recommender, tf
from tfrs_movies import ratings

import recs_core as recs

DIM = 32


def looked_up(vocabulary: list[str]) -> tf.keras.Sequential:
    """A tower as the tutorial has it: raw ids in, a vector for each out."""
    raw = tf.keras.Input((), dtype=tf.string)
    lookup = tf.keras.layers.StringLookup(vocabulary=vocabulary, mask_token=None)
    return tf.keras.Sequential([raw, lookup, tf.keras.layers.Embedding(len(vocabulary) + 1, DIM)])


def trained(train: recs.Interactions) -> dict[str, recs.TwoTower]:
    """Both ways, by the tutorial's loss and optimizer: scores as they are, and a sum over the batch."""
    users, movies = (sorted(ids.ids.to_pylist()) for ids in (train.query_ids, train.candidate_ids))
    towers = {
        "kept": [recs.Adopted(looked_up(ids), raw_ids=True) for ids in (users, movies)],
        "declared": [recs.TowerSpec([recs.Categorical(name, DIM)]) for name in ("user_id", "movie_title")],
    }
    spec = recs.RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, reduction="sum")
    models = {way: recs.TwoTower(*both, spec, recs.Adagrad(0.1), backend="tensorflow") for way, both in towers.items()}
    for model in models.values():
        model.fit(train, epochs=3, batch_size=1024, progress=False)
    return models


def main() -> None:
    """Print metrics and recommendations of both, and serve each from a SavedModel."""
    rows = ratings(*sys.argv[1:])
    data = recs.Interactions.from_table(rows, query="user_id", candidate="movie_title", timestamp="timestamp")
    train, test = data.split(by="random", test=0.2)
    tf.keras.utils.set_random_seed(42)
    for way, model in trained(train).items():
        metrics = model.evaluate(test, exclude=train, k=(10, 100))
        print(way, *(f"{name} {metrics[name]:.3f}" for name in ("recall@10", "recall@100", "mrr")), sep="   ")
        print("  user 42", *model.recommend(["42"], k=3).ids[0], sep=" | ")
        with tempfile.TemporaryDirectory() as folder:
            export_recommender(model, folder, k=3)  # `signatures["recommend"]` takes k and exclusions too
            serve = tf.saved_model.load(folder).signatures["serving_default"]
            titles = serve(user_id=tf.constant(["42"]))["ids"].numpy()[0]
        print("  served ", *(title.decode() for title in titles), sep=" | ")


if __name__ == "__main__":
    main()
