"""Which recipe is the better guess for some training data, by what the data sets measured so far say."""

from __future__ import annotations

from recs_core.data.interactions import Interactions
from recs_core.recipes import features
from recs_core.recipes.choice import rows_per_query
from recs_core.recipes.history import SHORT_UP_TO
from recs_core.recipes.order import order

NEW_FROM = 0.05
"""Share of the candidates without a training row, from which on a catalog changes."""


def suggest(data: Interactions) -> tuple[str, str]:
    """A recipe's name, and why it is the better guess for this training data, in words. docs/recipes.md has the
    evidence: `features` for catalogs that change, `sequence` where the order of dated rows says what comes next,
    `history` for other dated rows and for short histories, else `ids`. Takes seconds where rows have times.
    """
    corpus, new = len(data.candidate_ids), int((data.candidate_counts() == 0).sum())
    if new >= NEW_FROM * corpus and (columns := _side_columns(data)):
        return "features", f"{new:,} of {corpus:,} candidates have no training row, but have {', '.join(columns)}"
    rows = f"{rows_per_query(data):.0f} rows per query"
    if data.timestamps is not None:
        found = order(data)
        hits = f"of {found.queries} hidden candidates, what came after the latest ones finds {found.by_order:.0%}"
        compared = f"{hits}, queries alike, whatever the order, {found.regardless:.0%}"
        if found.matters:
            return "sequence", f"order matters: {compared}"
        return (
            "history",
            f"rows have times ({rows}), and `history` weighs them by age; their order tells no more: {compared}",
        )
    if rows_per_query(data) <= SHORT_UP_TO:
        return "history", f"no timestamps, {rows} ≤ {SHORT_UP_TO}: `ids` gains little, and knows no new queries"
    return "ids", f"no timestamps, {rows} > {SHORT_UP_TO}: enough to learn a vector of each query's own"


def _side_columns(data: Interactions) -> list[str]:
    """Columns of the candidates that the recipe `features` makes use of."""
    return [feature.name for feature in features.choose(data).candidate.features if feature.name != data.candidate_name]
