"""The runner: what is green, honest refusals, strict expected failures, and the doors of pytest and `recs check`."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from biters import BITERS
from breaking import Edit, broken
from numpy_backend import INFO, NumpyBackend, NumpyIndex

from recs_core.conformance import IndexConformance, run
from recs_core.conformance.registry import CHECKS, check, checks_of
from recs_core.conformance.runner import session
from recs_core.contract.errors import SpecError
from recs_core.contract.manifest import BACKEND_CAPABILITIES, INDEX_CAPABILITIES, No

LOGQ = "task/logq-correction"


def declining(**reasons):
    """The NumPy backend with a manifest that declines something."""
    return NumpyBackend(replace(INFO, capabilities={**INFO.capabilities, **{k: No(v) for k, v in reasons.items()}}))


def wrong_logq():
    return broken(*BITERS[LOGQ][1]).NumpyBackend()


def test_a_report_is_green_and_says_where_it_was_made():
    report = run(index=NumpyIndex)
    assert report.green
    data = json.loads(json.dumps(report.to_json()))
    assert data["environment"]["numpy"]
    assert {o["check"] for o in data["outcomes"]} == {c.name for c in CHECKS.values() if c.subject == "index"}
    assert report.table().endswith(f"green: {len(data['outcomes']) - 1} passed, 1 skipped")  # index/recall: it is exact


RECALL = "index/recall"
APPROXIMATE = Edit("numpy_backend", "        is_exact=True,\n", "        recall_floor=0.9,\n")


def test_a_report_shows_the_recall_of_an_approximate_index_also_when_green():
    report = session(index=broken(APPROXIMATE).NumpyIndex, tiers=("required",)).report()
    assert report.green, report.table()
    (outcome,) = [o for o in json.loads(json.dumps(report.to_json()))["outcomes"] if o["check"] == RECALL]
    perfect = {"recall@10 on vectors of length 1": 1.0, "recall@10 on vectors of all lengths": 1.0}
    assert outcome["measured"] == {**perfect, "recall_floor": 0.9}
    (line,) = [line for line in report.table().splitlines() if line.startswith(RECALL)]
    assert line.endswith(
        "passed  recall@10 on vectors of length 1: 1, recall@10 on vectors of all lengths: 1, recall_floor: 0.9"
    )


def test_recall_below_the_floor_fails_with_both_numbers():
    outcome = session(index=broken(*BITERS[RECALL][1]).NumpyIndex).outcome(RECALL)
    assert outcome.status == "failed"
    assert "expected  at least 0.9, the manifest's recall_floor\n" in outcome.message
    got = re.search(r"got       (\S+) on vectors of length 1, (\S+) on vectors of all lengths\n", outcome.message)
    assert all(0.85 < float(share) < 0.9 for share in got.groups())  # seven eighths of the candidates can be found


def test_a_wrong_sign_is_one_failure_that_shows_expected_got_and_the_formula():
    one = session(wrong_logq())
    outcome = one.outcome(LOGQ)
    assert outcome.status == "failed"
    for part in ("expected  ", "got       ", "formula   s_j ← s_j − log q_j", "hint      Look at the sign"):
        assert part in outcome.message
    assert one.outcome("task/q-without-floor").status == "not judged"
    assert one.outcome("task/combinations").cause == LOGQ


def test_nothing_judged_is_red():
    assert not run(index=NumpyIndex, tiers=()).green


def test_what_is_declined_with_a_reason_is_checked_to_be_refused():
    one = session(declining(hard_negatives="no top-k here"))
    assert one.outcome("task/hard-negatives").status == "refused"
    assert "no top-k here" in one.outcome("task/hard-negatives").message


def test_what_is_declined_and_works_is_a_failure():
    outcome = session(declining(clip_norm="not yet")).outcome("training/clip-norm")
    assert outcome.status == "failed"
    assert "it works, so declare it" in outcome.message


def test_what_is_declined_and_raises_something_else_is_a_failure():
    backend = declining(clip_norm="not yet")
    backend.trainer = lambda model, optimizer: None
    one = session(backend)
    one._outcomes.update(
        {name: replace(one.outcome("manifest/backend"), check=name) for name in CHECKS if name != "training/clip-norm"}
    )
    outcome = one.outcome("training/clip-norm")
    assert outcome.status == "failed"
    assert "got       AttributeError" in outcome.message


def test_what_is_declined_is_judged_whatever_else_fails():
    edits = BITERS["towers/categorical"][1]
    module = broken(*edits)
    one = session(module.NumpyBackend(replace(INFO, capabilities={**INFO.capabilities, "hard_negatives": No("none")})))
    assert one.outcome("task/in-batch").status == "not judged"
    assert one.outcome("task/hard-negatives").status == "refused"


def test_what_no_call_could_refuse_is_skipped_with_the_reason():
    outcome = session(declining(sparse_rows="whole tables")).outcome("training/cost-of-rows")
    assert outcome.status == "skipped"
    assert "whole tables" in outcome.message


def test_every_capability_has_a_check():
    needed = {name for check in CHECKS.values() for name in check.needs}
    assert needed == {*BACKEND_CAPABILITIES, *INDEX_CAPABILITIES}


def test_an_error_says_where_it_was_raised():
    backend = NumpyBackend()
    backend.model = None
    message = session(backend).outcome("towers/categorical").message
    assert message.startswith("TypeError: 'NoneType' object is not callable (context.py, line ")


def test_the_required_tier_allows_no_refusal():
    outcome = session(declining(bag="not yet")).outcome("towers/bag-sum")
    assert outcome.status == "failed"
    assert "nothing that the required tier needs may be declined" in outcome.message


def test_an_expected_failure_is_strict():
    listed = session(wrong_logq(), expected_failures={LOGQ: "issue 12", "towers/relu": "issue 13"})
    assert listed.outcome(LOGQ).status == "expected failure"
    assert listed.outcome("task/q-without-floor").status != "not judged"
    assert listed.outcome("towers/relu").status == "failed"
    assert "take it off the list" in listed.outcome("towers/relu").message


@pytest.mark.parametrize("listed", [{"task/logq": "why"}, {LOGQ: ""}, {"index/ties": "not a backend's"}])
def test_an_expected_failure_needs_a_known_name_and_a_reason(listed):
    with pytest.raises(SpecError, match="expected failure"):
        session(NumpyBackend(), expected_failures=listed)


def test_what_does_not_apply_is_skipped_with_the_reason():
    outcome = session(NumpyBackend(replace(INFO, static_shapes=False))).outcome("training/padding")
    assert outcome.status == "skipped"
    assert "static shapes" in outcome.message


def test_one_thing_is_checked_at_a_time():
    for arguments in ({}, {"backend": NumpyBackend(), "index": NumpyIndex}):
        with pytest.raises(SpecError, match="one of the two"):
            run(**arguments)
    with pytest.raises(SpecError, match="no tier"):
        run(index=NumpyIndex, tiers=("best",))


def test_a_check_has_a_new_name_advice_and_known_foundations():
    def named(context):
        """Meaning.

        Advice.
        """

    with pytest.raises(SpecError, match="two checks"):
        check(LOGQ)(named)
    with pytest.raises(SpecError, match="must be registered before"):
        check("x", rests_on=("y",))(named)
    with pytest.raises(SpecError, match="needs a docstring"):
        check("x")(lambda context: None)


def test_a_class_may_not_override_the_checks():
    with pytest.raises(SpecError, match="expected_failures"):
        type("TestMine", (IndexConformance,), {"test_check": lambda self: None})


SUBCLASS = """
import sys
sys.path.insert(0, {here!r})
from biters import BITERS
from breaking import Edit, broken
from recs_core.conformance import IndexConformance

class TestMine(IndexConformance):
    index = broken(*BITERS["index/ties"][1]).NumpyIndex
    expected_failures = {expected!r}
"""


INDEX_CHECKS = sum(c.subject == "index" for c in CHECKS.values())


def pytest_run(*arguments, cwd):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("expected", "code", "counts"),
    [({}, 1, "1 failed"), ({"index/ties": "issue 3"}, 0, f"{INDEX_CHECKS - 2} passed, 1 skipped, 1 xfailed")],
)
def test_a_subclass_is_a_door(tmp_path, expected, code, counts):
    text = SUBCLASS.format(here=str(Path(__file__).parent), expected=expected)
    (tmp_path / "test_mine.py").write_text(text)
    done = pytest_run("test_mine.py", cwd=tmp_path)
    assert done.returncode == code, done.stdout
    assert counts in done.stdout


def test_what_is_not_judged_alone_is_red(tmp_path):
    text = SUBCLASS.format(here=str(Path(__file__).parent), expected={}).replace('"index/ties"]', '"index/top-k"]')
    (tmp_path / "test_mine.py").write_text(text)
    assert pytest_run("test_mine.py", "-k", "index/rebuild", cwd=tmp_path).returncode == 1


@pytest.mark.slow
def test_the_installed_suite_is_a_door(tmp_path):
    installed = ("--pyargs", "recs_core.conformance")
    done = pytest_run(*installed, "--recs-index", "exact", cwd=tmp_path)
    counted = f"{len(checks_of('index')) - 2} passed, 2 skipped"  # it is exact, and nothing of it is stored
    assert counted in done.stdout, done.stdout + done.stderr
    nothing = pytest_run(*installed, cwd=tmp_path)
    assert nothing.returncode == pytest.ExitCode.USAGE_ERROR
    assert "name what to check" in nothing.stderr
    unknown = pytest_run(*installed, "--recs-backend", "nobody", cwd=tmp_path)
    assert unknown.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no backend 'nobody'" in unknown.stderr


def test_recs_check_is_a_door(tmp_path, capsys):
    from recs_core.cli.main import main

    path = tmp_path / "report.json"
    with pytest.raises(SystemExit) as done:
        main(["check", "exact", "--index", "--json", str(path)])
    assert done.value.code == 0
    assert "green" in capsys.readouterr().out
    assert json.loads(path.read_text())["green"] is True


def test_recs_check_names_a_list_that_cannot_be_read(tmp_path, capsys):
    from recs_core.cli.main import main

    with pytest.raises(SystemExit) as done:
        main(["check", "exact", "--index", "--expected-failures", str(tmp_path / "none.json")])
    assert done.value.code == 2
    assert "none.json" in capsys.readouterr().err
