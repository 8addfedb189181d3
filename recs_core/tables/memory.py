"""Memory while tables are read."""

from __future__ import annotations

import pyarrow as pa


def give_back() -> None:
    """Return to the system what Arrow holds and nobody uses: after each step of reading a large table, as much as is
    kept of it."""
    pa.default_memory_pool().release_unused()
