"""Search for the candidates that score highest: the exact index, and filters and ids around any index."""

from recs_core.index.corpus import CandidateIndex
from recs_core.index.exact import ExactIndex
from recs_core.index.filtered import FilteredIndex
from recs_core.index.plan import Candidates, SearchPlan, plan_search
from recs_core.index.rescored import RescoredIndex

__all__ = ["CandidateIndex", "Candidates", "ExactIndex", "FilteredIndex", "RescoredIndex", "SearchPlan", "plan_search"]
