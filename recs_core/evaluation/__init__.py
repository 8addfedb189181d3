"""Exact evaluation: ranks over the whole corpus, metrics from ranks, intervals, baselines.

found = ranks(queries, candidates, targets, exclude=seen)
metrics(found, k=(10, 20))                               # {"recall@10": …, "ndcg@20": …, "mrr": …}
intervals(query_metrics(found, k=(20,)))                 # the same with "low" and "high"
"""

from recs_core.evaluation.baselines import popularity, recent_popularity, score_ranks
from recs_core.evaluation.intervals import Interval, compare, intervals
from recs_core.evaluation.lists import list_metrics
from recs_core.evaluation.measures import DEFAULT_K, QueryMetrics, Ties, metric_names, metrics, query_metrics
from recs_core.evaluation.ranking import NEVER, Ranks, ranks
from recs_core.evaluation.report import report_rows

__all__ = [
    "DEFAULT_K",
    "NEVER",
    "Interval",
    "QueryMetrics",
    "Ranks",
    "Ties",
    "compare",
    "intervals",
    "list_metrics",
    "metric_names",
    "metrics",
    "popularity",
    "query_metrics",
    "ranks",
    "recent_popularity",
    "report_rows",
    "score_ranks",
]
