"""Every check can fail: for each there is a wrong backend or index that it catches. And it is the one to be read."""

import pytest
from biters import BITERS, FAULTS
from biters.sizes import BITERS as SIZES
from breaking import broken

from recs_core.conformance.registry import CHECKS
from recs_core.conformance.runner import session

MOST = 3
"""Red checks that one fault may make."""

LONG = {*SIZES, "encoders/training", "encoders/gru-in-use", "encoders/time-request", "training/bf16"}
"""They take three quarters of the suite's time, and rest on shorter ones of the same subjects: each is asked about its
own faults alone."""


def session_of(name, *edits):
    """A session of what is broken so."""
    module = broken(*edits)
    return session(index=module.NumpyIndex) if CHECKS[name].subject == "index" else session(module.NumpyBackend())


def test_every_check_has_a_biter_and_every_biter_a_check():
    assert set(BITERS) == set(CHECKS)


@pytest.mark.parametrize("subject", ["towers/categorical", "index/top-k"])
def test_what_nothing_has_bitten_is_green(subject):
    report = session_of(subject).report()
    assert report.green, report.table()


@pytest.mark.parametrize(("name", "what", "edits"), FAULTS)
def test_the_check_bites(name, what, edits):
    outcome = session_of(name, *edits).outcome(name)
    assert outcome.status == "failed", f"{what}: {outcome}"


@pytest.mark.parametrize(
    ("name", "what", "edits"),
    [
        pytest.param(*fault, marks=pytest.mark.long if number % 6 else pytest.mark.slow)
        for number, fault in enumerate(FAULTS)
    ],
)
def test_who_reads_the_first_red_check_reads_of_the_fault(name, what, edits):
    judged = session_of(name, *edits)
    outcomes = [judged.outcome(check.name) for check in judged.checks if check.name not in LONG or check.name == name]
    failed = [o.check for o in outcomes if o.status == "failed"]
    assert failed[0] == name, f"{what}: {failed}"
    assert len(failed) <= MOST, f"{what}: {failed}"


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.name)
def test_advice_stands_by_itself(check):
    assert not check.advice.startswith("As "), "who sees this check fail does not see the other one"
    assert check.meaning.endswith(".")
