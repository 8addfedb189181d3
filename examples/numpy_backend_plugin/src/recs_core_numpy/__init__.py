"""A recs-core backend in plain NumPy."""
