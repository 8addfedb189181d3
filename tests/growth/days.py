"""Two days of a small shop: the second has users and items that the first has not, and old ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import recs_core as recs
from tests.bundle import small

USERS, ITEMS = range(104, 110), range(5, 12)


def first() -> recs.Interactions:
    """Users 100 to 106, items i0 to i8."""
    return small.interactions()


def second(rows: int = 40, **changes: object) -> recs.Interactions:
    """Users 104 to 109, items i5 to i11, later than the first; the features of known ones are as they were."""
    random = np.random.default_rng(1)
    user = np.concatenate([USERS, random.choice(USERS, rows - len(USERS))])
    item = np.concatenate([ITEMS, random.choice(ITEMS, rows - len(ITEMS))])
    given = {
        "table": pa.table({"user": user, "item": [f"i{n}" for n in item], "t": 1e6 + np.arange(rows) * 3600.0}),
        "query": "user",
        "candidate": "item",
        "timestamp": "t",
        "queries": {"user": np.array(USERS), "age": [20.0 + 20 / 3 * (user - 100) for user in USERS]},
        "candidates": {
            "item": [f"i{n}" for n in ITEMS],
            "tags": [["x", "y", "z"][: n % 3 + (n > 8)] for n in ITEMS],
            "title": [f"red thing {n}" if n % 4 else None for n in ITEMS],
            "price": [1.0 + n for n in ITEMS],
        },
    }
    return recs.Interactions.from_table(**{**given, **changes})


def taken(*parts: recs.Interactions) -> dict[int, list[str]]:
    """What each user took, in order of time."""
    out: dict[int, list[str]] = {}
    for part in parts:
        table = part.to_table().to_pydict()
        for user, item in zip(table["user"], table["item"], strict=True):
            out.setdefault(user, []).append(item)
    return out
