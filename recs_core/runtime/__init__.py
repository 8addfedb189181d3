"""The runtime that recommends from a bundle with NumPy alone: no keras, no framework."""

from recs_core.runtime.recommender import NumpyRecommender
from recs_core.runtime.towers import NumpyTower

__all__ = ["NumpyRecommender", "NumpyTower"]
