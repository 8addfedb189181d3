"""Search for the candidates that score highest: the exact index, ids around any index, and filters."""

from recs_core.index.corpus import CandidateIndex
from recs_core.index.exact import ExactIndex

__all__ = ["CandidateIndex", "ExactIndex"]
