"""faiss as indexes of recs-core: `faiss-flat`, `faiss-ivf` and `faiss-hnsw`. `plugin` says what each can."""
