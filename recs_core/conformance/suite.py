"""The suite as test classes: subclass, say what to check, and pytest does the rest.

>>> from recs_core.conformance import RetrievalConformance
>>> class TestMine(RetrievalConformance):
...     backend = "mine"
...     expected_failures = {"task/hard-negatives": "ties are broken otherwise, issue 12"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from recs_core.conformance.registry import TIERS, Subject, checks_of
from recs_core.conformance.runner import Outcome, Session, session
from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import Backend, Index


class _Conformance:
    tiers: ClassVar[tuple[str, ...]] = tuple(TIERS)
    expected_failures: ClassVar[Mapping[str, str]] = {}
    _session: ClassVar[Session | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "test_check" in vars(cls) and cls.__module__ != __name__:
            raise SpecError(f"{cls.__name__} overrides test_check; list what fails in expected_failures, with a reason")

    @classmethod
    def make_session(cls, config: pytest.Config) -> Session:
        """What is under test."""
        raise NotImplementedError

    def _judge(self, name: str, request: pytest.FixtureRequest) -> None:
        cls = type(self)
        if "_session" not in vars(cls):
            cls._session = cls.make_session(request.config)
        assert cls._session is not None
        _report(cls._session.outcome(name), request)


class RetrievalConformance(_Conformance):
    """The checks of a backend. `backend`: a name as in "torch" or "keras[jax]", or a `Backend`."""

    backend: ClassVar[str | Backend]

    @classmethod
    def make_session(cls, config: pytest.Config) -> Session:
        """A session of `backend`."""
        return session(cls.backend, tiers=cls.tiers, expected_failures=cls.expected_failures)

    @pytest.mark.parametrize("check", [c.name for c in checks_of("backend")])
    def test_check(self, check: str, request: pytest.FixtureRequest) -> None:
        """One check of docs/conformance.md."""
        self._judge(check, request)


class IndexConformance(_Conformance):
    """The checks of an index. `index`: a name, or what makes an empty `Index` (`staticmethod(f)` for a function)."""

    index: ClassVar[str | Callable[[], Index]]

    @classmethod
    def make_session(cls, config: pytest.Config) -> Session:
        """A session of `index`."""
        return session(index=cls.index, tiers=cls.tiers, expected_failures=cls.expected_failures)

    @pytest.mark.parametrize("check", [c.name for c in checks_of("index")])
    def test_check(self, check: str, request: pytest.FixtureRequest) -> None:
        """One check of docs/conformance.md."""
        self._judge(check, request)


def _report(outcome: Outcome, request: pytest.FixtureRequest) -> None:
    """An outcome in pytest's terms. What is not judged is skipped only where its cause fails in the same run."""
    if outcome.status == "failed":
        pytest.fail(f"{outcome.check}: {outcome.message}", pytrace=False)
    if outcome.status == "expected failure":
        pytest.xfail(outcome.message)
    if outcome.status == "skipped":
        pytest.skip(outcome.message)
    if outcome.status == "not judged":
        selected = any(item.name.endswith(f"[{outcome.cause}]") for item in request.session.items)
        (pytest.skip if selected else pytest.fail)(f"not judged: {outcome.message}")


SUBJECTS: dict[Subject, type[_Conformance]] = {"backend": RetrievalConformance, "index": IndexConformance}
