"""Filters by attribute: a condition over the candidates' side table → the candidates that it keeps.

A condition is an Arrow expression, a mapping of columns to values, or, on the shell, a line of text (`parse`).
"""

from recs_core.where.filters import Filters, Where
from recs_core.where.grammar import parse

__all__ = ["Filters", "Where", "parse"]
