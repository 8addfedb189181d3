"""Interactions, their splits, and what a model learns of them: schema, codes, batches, the catalog."""
