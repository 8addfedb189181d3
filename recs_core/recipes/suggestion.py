"""Which recipe is the better guess for some training data, by what the data sets measured so far say."""

from __future__ import annotations

from recs_core.data.interactions import Interactions
from recs_core.recipes import features
from recs_core.recipes.choice import rows_per_query
from recs_core.recipes.history import SHORT_UP_TO

NEW_FROM = 0.05
"""Share of the candidates without a training row, from which on a catalog changes."""


def suggest(data: Interactions) -> tuple[str, str]:
    """A recipe's name, and why it is the better guess for this training data, in words. docs/recipes.md has the
    evidence: `features` for catalogs that change, `history` for dated rows or short histories, else `ids`.
    """
    corpus, new = len(data.candidate_ids), int((data.candidate_counts() == 0).sum())
    if new >= NEW_FROM * corpus and (columns := _side_columns(data)):
        return "features", f"{new:,} of {corpus:,} candidates have no training row, but have {', '.join(columns)}"
    rows = f"{rows_per_query(data):.0f} rows per query"
    if data.timestamps is not None:
        return "history", f"rows have times ({rows}), and `history` weighs them by age"
    if rows_per_query(data) <= SHORT_UP_TO:
        return "history", f"no timestamps, {rows} ≤ {SHORT_UP_TO}: `ids` gains little, and knows no new queries"
    return "ids", f"no timestamps, {rows} > {SHORT_UP_TO}: enough to learn a vector of each query's own"


def _side_columns(data: Interactions) -> list[str]:
    """Columns of the candidates that the recipe `features` makes use of."""
    return [feature.name for feature in features.choose(data).candidate.features if feature.name != data.candidate_name]
