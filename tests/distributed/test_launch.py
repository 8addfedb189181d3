"""What the environment says of a worker, and processes that are started, watched and ended. No framework."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from recs_core.contract.errors import ConfigError
from recs_core.contract.workers import Workers
from recs_core.distributed.agreement import check_agreement
from recs_core.distributed.launch import launch, workers_of

GIVEN = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "node0", "MASTER_PORT": "1234"}


def test_who_a_worker_is() -> None:
    assert workers_of({}) is None and workers_of({"RANK": "0"}) is None
    assert workers_of(GIVEN) == Workers(1, 3, "node0", 1234)
    assert workers_of({**GIVEN, "RANK": "0"}, 9.0) == Workers(0, 3, "node0", 1234, hosts=True, timeout=9.0)
    torchrun = {"LOCAL_RANK": "2", "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    expected = Workers(0, 3, "node0", 1234, hosts=False, local=2, attempt=1)
    assert workers_of({**GIVEN, **torchrun, "RANK": "0"}) == expected
    assert workers_of({**GIVEN, "RANK": "0", "WORLD_SIZE": "1"}) is None, "one alone needs nobody"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RANK": "x"}, "RANK in the environment is 'x', which is no number"),
        ({"MASTER_PORT": ""}, "MASTER_PORT in the environment is ''"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR, where the workers meet, is not"),
        ({"RANK": "3"}, "rank is one of 0 … size − 1, got rank 3 of 3"),
    ],
)
def test_an_environment_that_cannot_be_meant(change: dict[str, str | None], said: str) -> None:
    environ = {name: value for name, value in {**GIVEN, **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=said):
        workers_of(environ)


def ran(program: str, size: int = 3) -> tuple[int, list[str]]:
    return launch(size, [sys.executable, "-c", f"import os, sys, signal\nrank = os.environ['RANK']\n{program}"])


def test_each_is_told_who_it_is(tmp_path: Any) -> None:
    program = (
        f"from recs_core.distributed.launch import workers_of\nw = workers_of(os.environ)\n"
        f"open({str(tmp_path)!r} + f'/{{w.rank}}', 'w').write(f'{{w.size}} {{w.local}} {{w.hosts}} {{w.port}}')"
    )
    assert ran(program) == (0, [])
    told = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [words[:3] for words in told] == [["3", "0", "True"], ["3", "1", "False"], ["3", "2", "False"]]
    assert len({words[3] for words in told}) == 1


def test_one_that_fails_ends_all_and_its_last_line_is_said() -> None:
    waits = "import time\nif rank != '1': time.sleep(60)\nsys.stderr.write('one\\nrecs: no such file\\n')\nsys.exit(2)"
    assert ran(waits) == (2, ["recs: no such file"])


def test_what_worker_0_says_itself_is_not_said_twice() -> None:
    assert ran("sys.exit(2)") == (2, [])


def test_what_ended_a_worker_is_named_where_the_others_only_waited_for_it() -> None:
    program = "os.kill(os.getpid(), signal.SIGKILL) if rank == '2' else sys.exit(3)"
    code, lines = ran(program)
    assert code in (1, 3) and lines == ["recs: worker 2 of 3 was ended by SIGKILL"]


def test_where_worker_0_was_ended_another_says_what_it_waited_for() -> None:
    last = "sys.stderr.write('recs: worker 1 of 2: worker 0 did not answer in the loss\\n')"
    program = f"os.kill(os.getpid(), signal.SIGKILL) if rank == '0' else ({last}, sys.exit(3))"
    code, lines = ran(program, 2)
    assert code in (1, 3) and lines == [
        "recs: worker 0 of 2 was ended by SIGKILL",
        "recs: worker 1 of 2: worker 0 did not answer in the loss",
    ]


class Said:
    """A group of which all is known."""

    def __init__(self, *facts: dict[str, str]) -> None:
        self.facts, self.workers = facts, Workers(0, len(facts))

    def all(self, value: Any, what: str) -> list[Any]:
        return list(self.facts)


def test_the_first_difference_is_named_with_both_values_near_it() -> None:
    alike = {"seed": "1", "query": "x" * 200 + "a"}
    group: Any = Said(alike, alike, {**alike, "query": "x" * 200 + "b"}, {"seed": "2"})
    with pytest.raises(ConfigError) as said:
        check_agreement(group, {})
    assert str(said.value).startswith(f"worker 2 and worker 0 disagree on query: {'x' * 40}b and {'x' * 40}a; start")
    check_agreement(Said(alike, alike), {})  # type: ignore[arg-type]
