# The TFRS program of a published comparison, on TFRS 0.7.7 and today's TensorFlow. Every change has its reason beside it.
# ruff: noqa
# fmt: off

# Changed: TFRS needs Keras 2, settled before TensorFlow is imported, which is what these two names do.
# Dropped: `import tensorflow_datasets`, which was not used.
from recs_core_tensorflow import BruteForce, tf, tfrs
import numpy as np

# Set seeds for reproducibility
np.random.seed(42)
tf.random.set_seed(42)

# Create a small MovieLens-like dataset
def create_movielens_data():
    user_ids = []
    movie_ids = []
    ratings = []
    
    # Create a deterministic dataset
    for user_id in range(10):
        # Each user rates 5 random movies
        rated_movies = np.random.choice(20, size=5, replace=False)
        for movie_id in rated_movies:
            rating = np.random.randint(1, 6)  # Rating from 1-5
            user_ids.append(str(user_id))
            movie_ids.append(str(movie_id))
            ratings.append(float(rating))
    
    return user_ids, movie_ids, ratings

# Create dataset
user_ids, movie_ids, ratings = create_movielens_data()

# Convert to TensorFlow dataset
ratings_data = tf.data.Dataset.from_tensor_slices({
    "user_id": user_ids,
    "movie_id": movie_ids,
    "rating": ratings
})

# Get unique user and movie IDs
# Changed: sorted. A set of strings has another order in every process, and with it the rows of every table.
unique_user_ids = sorted(set(user_ids))
unique_movie_ids = sorted(set(movie_ids))

# Create vocabularies
user_ids_vocabulary = tf.keras.layers.StringLookup(mask_token=None)
user_ids_vocabulary.adapt(unique_user_ids)

movie_ids_vocabulary = tf.keras.layers.StringLookup(mask_token=None)
movie_ids_vocabulary.adapt(unique_movie_ids)

# Define model
class MovieLensModel(tfrs.Model):
    def __init__(self, user_ids_vocabulary, movie_ids_vocabulary):
        super().__init__()
        self.user_ids_vocabulary = user_ids_vocabulary
        self.movie_ids_vocabulary = movie_ids_vocabulary
        
        # User model
        self.user_model = tf.keras.Sequential([
            # Added: the input's dtype. Without it Sequential takes it from the lookup's output and casts strings to int64.
            tf.keras.Input(shape=(), dtype=tf.string),
            user_ids_vocabulary,
            tf.keras.layers.Embedding(len(user_ids_vocabulary.get_vocabulary()), 32),
            tf.keras.layers.Dense(16, activation='relu')
        ])
        
        # Movie model
        self.movie_model = tf.keras.Sequential([
            tf.keras.Input(shape=(), dtype=tf.string),  # Added, as above.
            movie_ids_vocabulary,
            tf.keras.layers.Embedding(len(movie_ids_vocabulary.get_vocabulary()), 32),
            tf.keras.layers.Dense(16, activation='relu')
        ])
        
        # Task
        self.task = tfrs.tasks.Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(
                candidates=tf.data.Dataset.from_tensor_slices(unique_movie_ids)
                    .batch(128)
                    # Changed: with the ids, so that a hit is an id found, not a score reached: by score a model that
                    # gives every movie the same score counts as perfect.
                    .map(lambda ids: (ids, self.movie_model(ids)))
            )
        )
    
    def compute_loss(self, features, training=False):
        user_embeddings = self.user_model(features["user_id"])
        movie_embeddings = self.movie_model(features["movie_id"])
        return self.task(
            user_embeddings, movie_embeddings,
            candidate_ids=features["movie_id"]  # Added: the other half of metrics by id.
        )

# Create and train model
model = MovieLensModel(user_ids_vocabulary, movie_ids_vocabulary)
model.compile(optimizer=tf.keras.optimizers.Adam(0.01))

# Train
train_data = ratings_data.shuffle(1000).batch(16)
model.fit(train_data, epochs=10)

# Generate recommendations
# Changed: tfrs.layers.ann is gone; its place is tfrs.layers.factorized_top_k, of whose BruteForce this is a subclass.
# It never returns what is excluded, and pads where TFRS raises.
index = BruteForce(model.user_model)
index.index_from_dataset(
    tf.data.Dataset.from_tensor_slices(unique_movie_ids)
        .batch(100)
        .map(lambda x: (x, model.movie_model(x)))
)

# Get recommendations for user 0
_, titles = index(np.array(["0"]))
print(f"Top 5 recommendations for user 0: {titles[0, :5]}")
