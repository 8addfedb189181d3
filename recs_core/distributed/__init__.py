"""Several workers, one global batch: who they are, what each computes of it, and where rows lie. NumPy only."""
