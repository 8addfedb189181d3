"""Mutants of correct backends and indexes, made by rule: what they are made of, how, and how the suite judges them."""
