# The TorchRS program of a published comparison, word for word but for its import line.
# ruff: noqa
# fmt: off
import torch
import torch.nn as nn
import numpy as np
from recs_core_torch.torchrs import models, tasks, metrics, data

# Set seeds for reproducibility
np.random.seed(42)
torch.manual_seed(42)

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
            user_ids.append(user_id)
            movie_ids.append(movie_id)
            ratings.append(float(rating))
    
    return np.array(user_ids), np.array(movie_ids), np.array(ratings)

# Create dataset
user_ids, movie_ids, ratings = create_movielens_data()
dataset = data.RecommendationDataset(user_ids, movie_ids, ratings)
train_loader = torch.utils.data.DataLoader(dataset, batch_size=16, shuffle=True)

# Create models
user_model = nn.Sequential(
    nn.Embedding(10, 32),
    nn.Linear(32, 16),
    nn.ReLU()
)

movie_model = nn.Sequential(
    nn.Embedding(20, 32),
    nn.Linear(32, 16),
    nn.ReLU()
)

# Create task and model
task = tasks.Retrieval(metrics=[metrics.FactorizedTopK(k=5)])
model = models.RetrievalModel(user_model=user_model, item_model=movie_model, task=task)

# Train
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
model.train()
for epoch in range(10):
    epoch_loss = 0
    for batch in train_loader:
        optimizer.zero_grad()
        user_ids_batch = batch['user_id']
        movie_ids_batch = batch['item_id']
        loss = model.compute_loss(user_ids_batch, movie_ids_batch, movie_ids_batch)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item()

# Generate recommendations
model.eval()
with torch.no_grad():
    sample_user = torch.tensor([0])
    candidate_movies = torch.arange(0, 20)
    top_movies, top_scores = model.recommend(sample_user, candidate_movies, k=5)
    print(f"Top 5 recommendations for user 0: {top_movies[0]}")
    print(f"Top 5 scores for user 0: {top_scores[0]}")
