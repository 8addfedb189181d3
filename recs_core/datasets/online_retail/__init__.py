"""Online Retail: who bought what for the first time, at a UK gift shop from December 2010 to December 2011.

266,226 first purchases of 3,659 items by 4,335 customers, in time order, embedded. Daqing Chen, UCI Machine Learning
Repository, 2015, https://doi.org/10.24432/C5BW33, CC BY 4.0; ATTRIBUTION.md beside the data says what was changed.
"""

from __future__ import annotations

from pathlib import Path

from recs_core.data.interactions import Interactions

_FOLDER = Path(__file__).parent


def load() -> Interactions:
    """Query `customer_id` (with `country`), candidate `item_id` (with `description`, `price` in GBP), `time`."""
    return Interactions.from_table(
        _FOLDER / "purchases.parquet",
        query="customer_id",
        candidate="item_id",
        timestamp="time",
        queries=_FOLDER / "customers.parquet",
        candidates=_FOLDER / "items.parquet",
    )
