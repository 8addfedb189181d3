"""Exact evaluation: ranks over the whole corpus, metrics from ranks and lists, slices, intervals, baselines.

>>> import numpy as np
>>> from recs_core.contract.batch import Ragged
>>> from recs_core.evaluation import intervals, metrics, query_metrics, ranks
>>> queries, candidates = np.eye(3, 4, dtype=np.float32), np.eye(4, dtype=np.float32)
>>> targets = Ragged(values=np.int32([0, 1, 3]), offsets=np.int32([0, 1, 2, 3]))
>>> found = ranks(queries, candidates, targets)
>>> metrics(found, k=(1, 2))["recall@1"]
0.666...
>>> intervals(query_metrics(found, k=(1,)))["recall@1"]
{'value': 0.666..., 'low': 0.0, 'high': 1.0}
"""

from recs_core.evaluation.answers import Answers, Measures, OwnMetric, beyond_names
from recs_core.evaluation.baselines import (
    answer_popularity,
    popularity,
    recent_popularity,
    score_ranks,
)
from recs_core.evaluation.intervals import Interval, compare, intervals
from recs_core.evaluation.labels import Labels, labels_of
from recs_core.evaluation.measures import DEFAULT_K, QueryMetrics, Ties, metric_names, metrics, query_metrics
from recs_core.evaluation.ranking import NEVER, Ranks, ranks
from recs_core.evaluation.report import Row, plain, report_rows, shown
from recs_core.evaluation.slices import Slice, Slices, slices_of
from recs_core.evaluation.targets import Repeats, Targets, targets_of

__all__ = [
    "DEFAULT_K",
    "NEVER",
    "Answers",
    "Interval",
    "Labels",
    "Measures",
    "OwnMetric",
    "QueryMetrics",
    "Ranks",
    "Repeats",
    "Row",
    "Slice",
    "Slices",
    "Targets",
    "Ties",
    "answer_popularity",
    "beyond_names",
    "compare",
    "intervals",
    "labels_of",
    "metric_names",
    "metrics",
    "plain",
    "popularity",
    "query_metrics",
    "ranks",
    "recent_popularity",
    "report_rows",
    "score_ranks",
    "shown",
    "slices_of",
    "targets_of",
]
