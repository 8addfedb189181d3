"""The conformance suite: what "the same model" means, as checks that anyone can run on their own backend or index.

Three doors to the same checks, which docs/conformance.md lists:

    recs check mine                                                  a table or JSON; no pytest
    pytest --pyargs recs_core.conformance --recs-backend mine
    class TestMine(RetrievalConformance): backend = "mine"           in a plugin's own tests

The last two need `pip install "recs-core[conformance]"`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recs_core.conformance.runner import Outcome as Outcome
    from recs_core.conformance.runner import Report as Report
    from recs_core.conformance.runner import run as run
    from recs_core.conformance.suite import IndexConformance as IndexConformance
    from recs_core.conformance.suite import RetrievalConformance as RetrievalConformance

# Imported when first used: the pytest plugin lives here, and is loaded into every pytest run.
_HOMES = {
    "IndexConformance": "suite",
    "Outcome": "runner",
    "Report": "runner",
    "RetrievalConformance": "suite",
    "run": "runner",
}

__all__ = ["IndexConformance", "Outcome", "Report", "RetrievalConformance", "run"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ImportError as error:
        if error.name != "pytest":
            raise
        from recs_core.contract.errors import MissingExtra

        raise MissingExtra(f'{name} needs pytest; pip install "recs-core[conformance]"') from error
    return getattr(home, name)
