"""Search for the candidates that score highest: the exact index, and filters and ids around any index."""

from recs_core.index.corpus import CandidateIndex
from recs_core.index.exact import ExactIndex
from recs_core.index.filtered import FilteredIndex

__all__ = ["CandidateIndex", "ExactIndex", "FilteredIndex"]
