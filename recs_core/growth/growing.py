"""What a recommender says of its growth: `extend` and `update_candidates`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.towers import TowerSpec
from recs_core.data.catalog import Catalog
from recs_core.data.interactions import Interactions
from recs_core.fitted import Fitted


class Growing:
    """A recommender that is made of a `Fitted`, and can become another one."""

    candidate: TowerSpec

    @property
    def catalog(self) -> Catalog:
        """What the model knows of its queries and candidates."""
        raise NotImplementedError

    def fitted(self) -> Fitted:
        """This model as a value."""
        raise NotImplementedError

    def extend(self, interactions: Interactions) -> Self:
        """Let the queries and candidates of `interactions` join, those that are new; nothing is trained.

        They get rows in the tables, which start at the table's mean, a bias of 0, and their features and attributes
        from the side tables; what was taken adds up, as in `fit`. Whoever was known keeps weights, features and the
        score of every history; only what is known of a query's past has grown. `fit(interactions, epochs=…)` trains on
        from here. What features learnt otherwise stays: means and edges of numbers, the length of vectors, hashed
        words.

        The backend's model is built anew: take `model`, `query_tower` and what a framework's own optimizer holds again.
        Raises `NotFitted` before `fit`, `UnsupportedFeature` where a tower is a module of your own, and `DataError` for
        other id columns, ids of another type, or a column that a tower reads of a new id and that is missing. Then
        nothing has changed.
        """
        from recs_core.growth.extension import grown

        self._become(grown(self.fitted(), interactions))
        return self

    def update_candidates(self, candidates: Any = None, *, retire: Any = ()) -> Self:
        """Change candidates, add and retire them; nothing is trained.

        `candidates`: a table (pyarrow, pandas, polars, a dict of columns, or the path of a CSV or Parquet file) with
        the id column and one row per candidate. A known one gets the features and attributes that the table has,
        keeps all others, and comes back if it was retired. A new one needs every column that the tower reads, and is
        known by these alone until `extend` brings a row of it: its id is read from the OOV row, its bias is 0.
        `retire`: ids that must never come back. Their rows and their place in histories stay.

        Raises `NotFitted` before `fit`, and `DataError` naming column and row for an id that is there twice, that
        is of another type, or that `retire` names and nobody knows; for a column that is neither a feature nor an
        attribute; for a value or a new candidate that the tower cannot read; and where nobody would be left. Then
        nothing has changed.
        """
        from recs_core.growth.candidates import changed

        catalog, touched = changed(self.candidate, self.catalog, candidates, retire)
        self._with_candidates(catalog, touched)
        return self

    def _become(self, fitted: Fitted) -> None:
        """Be the model of this value, which has grown, from now on."""
        raise NotImplementedError

    def _with_candidates(self, catalog: Catalog, touched: NDArray[np.int32]) -> None:
        """Know these candidates from now on; `touched`: the codes of those whose features may be others."""
        raise NotImplementedError
