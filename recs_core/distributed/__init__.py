"""Several workers, one global batch: which part of it each computes, where rows lie, who the workers are. NumPy only."""
