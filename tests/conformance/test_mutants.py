"""The command that measures the suite makes mutants, names them for good, and sees one killed."""

import ast

import numpy as np
import pytest
from equivalent_mutants import EQUIVALENT
from mutants import main, table
from mutating import effects
from mutating.making import by_hand, by_rule, mutants
from mutating.places import places
from mutating.rules import RULES
from mutating.running import Verdict, verdict
from mutating.subjects import SUBJECTS, Subject

SOURCE = '''
def scores(x, y, rows, k):
    """Words stay as they are."""
    out = x @ y.T - 1e-12
    out = out - 1
    if k < 3:
        raise ValueError(f"k is {k - 1}")
    out[rows] = 0
    return out[:k].copy()
'''


def rewritten(rule):
    """What a rule makes of `SOURCE`: the text that stands in each place instead."""
    return [ast.unparse(node) for place in places(ast.parse(SOURCE)) for node in RULES[rule](place)]


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        ("drop", {"x @ y.T", "out", "pass"}),
        ("swap", {"x @ y.T + 1e-12", "1 - out", "k > 3"}),
        ("off-by-one", {"2", "k <= 3", ":k + 1", ":k - 1", "-1"}),
        ("axis", {"y", "x @ y.T.T"}),
        ("constant", {"1e-11", "1e-13"}),
        ("alias", {"out[:k]", "out -= 1"}),
    ],
)
def test_a_rule_rewrites_what_it_is_about(rule, made):
    assert made <= set(rewritten(rule))


def test_words_and_messages_stay():
    assert not {"k + 1", "k"} & set(rewritten("swap"))


@pytest.mark.parametrize("kind", ["backends", "indexes"])
def test_every_name_is_that_of_one_mutant(kind):
    names = [mutant.name for mutant in mutants(kind, {}, per_rule=None)]
    assert len(set(names)) == len(names)


def test_a_line_above_changes_no_name(tmp_path):
    exact = SUBJECTS["exact"]
    files = {**exact.files, "filters": tmp_path / "filters.py"}
    files["filters"].write_text('"""Moved."""\n\n\nABOVE = None\n' + exact.files["filters"].read_text())
    moved = Subject("exact", "indexes", exact.package, files, exact.entry, exact.make, exact.mutated)
    assert [m.name for m in by_rule(moved, {})] == [m.name for m in by_rule(exact, {})]


def test_there_are_enough_of_them_and_a_sample_does_not_depend_on_the_rest():
    few, more = (mutants("indexes", {}, per_rule=n) for n in (10, 20))
    assert {m.name for m in few} <= {m.name for m in more}
    assert len(few) >= 60
    assert len(by_hand("backends")) + 10 * len(RULES) >= 150


# What runs in the fork is NumPy's alone; an earlier test may have imported JAX, which warns of every fork.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_one_is_killed_and_one_that_loops_or_does_not_load_too():
    first = next(m for m in by_rule(SUBJECTS["exact"], {}) if "min(int(k), size)" in m.name)
    found = verdict(first, 60)
    assert (found.status, found.mutant) == ("required", first.name)
    broken = next(m for m in by_hand("indexes") if m.rule == "stale")
    object.__setattr__(broken, "patch", lambda modules: 1 / 0)
    assert verdict(broken, 60).by == "it does not load: ZeroDivisionError"
    object.__setattr__(broken, "patch", lambda modules: [None for _ in iter(int, 1)])
    assert verdict(broken, 1).status == "required"


@pytest.mark.slow
def test_the_command_lists_them(capsys):
    assert main(["--subject", "indexes", "--only", "positions in int16", "--list"]) == 0
    assert "size/exact/exact.py:ExactIndex.search:positions in int16\n" in capsys.readouterr().out


def test_equivalents_are_mutants_and_have_a_reason():
    assert all(reason.strip() for reason in EQUIVALENT.values())


def test_the_table_counts():
    verdicts = [
        Verdict(str(i), "backends", "drop", s, "", 0)
        for i, s in enumerate(("required", "optional", "survived", "void"))
    ]
    assert table(verdicts).splitlines()[-1].split() == ["all", "3", "1", "1", "1", "0", "66.7%"]


def test_effects_cut_what_they_say():
    value = {"x": (np.arange(300.0), 1)}
    cut = effects.wrapped(0, 256)(lambda: value)()["x"][0]
    np.testing.assert_array_equal(cut, np.arange(300) % 256)
    np.testing.assert_array_equal(effects.narrow(np.array([1, 2**15]), "int16"), [1, -(2**15)])
