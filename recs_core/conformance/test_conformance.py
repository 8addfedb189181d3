"""What `pytest --pyargs recs_core.conformance --recs-backend NAME` (or `--recs-index NAME`) collects."""

from __future__ import annotations

from typing import ClassVar

import pytest

from recs_core.conformance.pytest_plugin import expected_failures, tiers
from recs_core.conformance.runner import Session, session
from recs_core.conformance.suite import IndexConformance, RetrievalConformance


class TestBackend(RetrievalConformance):
    """The backend that the command line names."""

    option: ClassVar[str] = "recs_backend"

    @classmethod
    def make_session(cls, config: pytest.Config) -> Session:
        """A session of the backend named."""
        return session(config.option.recs_backend, tiers=tiers(config), expected_failures=expected_failures(config))


class TestIndex(IndexConformance):
    """The index that the command line names."""

    option: ClassVar[str] = "recs_index"

    @classmethod
    def make_session(cls, config: pytest.Config) -> Session:
        """A session of the index named."""
        return session(index=config.option.recs_index, tiers=tiers(config), expected_failures=expected_failures(config))
