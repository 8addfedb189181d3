"""One Ray for all tests of a process: of this machine alone, silent to others, and gone afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",  # else a token is kept in the developer's home
    "RAY_USAGE_STATS_ENABLED": "0",
}

CORES = 2
"""Of the machine that stays, as Ray counts them; the real one may have others."""

END = 30.0
"""Seconds in which Ray's processes may end."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Ray as if on two machines: one of `CORES`, and one of a core, which may be taken away. Its processes are gone
    when the tests are done."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": CORES, "include_dashboard": False, "object_store_memory": 128 << 20}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1, object_store_memory=128 << 20)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    started = below(os.getpid())
    ray.shutdown()
    made.shutdown()
    until = time.monotonic() + END
    while (left := [process for process in started if is_running(process)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left, f"Ray left processes behind: {left}"


def below(process: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    parents = {int(stat.parent.name): parent_of(stat) for stat in Path("/proc").glob("[0-9]*/stat")}
    found = [process]
    for above in found:
        found += [child for child, parent in parents.items() if parent == above]
    return found[1:]


def parent_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    """The arguments of `recommend`: a bundle, three files of queries with a note that nobody reads, a new folder."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    import recs_core as recs
    from recs_core.reference.backend import OracleBackend

    random = np.random.default_rng(0)
    users, items = random.integers(0, 40, 400), random.integers(0, 30, 400)
    rows = pa.table({"user": 100 + users, "item": [f"i{item}" for item in items]})
    prices = pa.table({"item": [f"i{item}" for item in range(30)], "price": np.linspace(1.0, 9.0, 30)})
    train = recs.Interactions.from_table(rows, query="user", candidate="item", candidates=prices)
    model = recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user", dim=4)]),
        recs.TowerSpec([recs.Categorical("item", dim=4)]),
        backend=OracleBackend(),
    )
    model.fit(train, epochs=2, batch_size=64, progress=False)
    model.save(tmp_path / "bundle")
    (tmp_path / "queries").mkdir()
    for number in range(3):
        ids = random.integers(100, 145, 50)  # five that training never saw
        table = pa.table({"user": pa.array(ids, pa.int32()), "note": ["x"] * 50})
        pq.write_table(table, tmp_path / "queries" / f"q{number}.parquet", row_group_size=20)
    return {
        "bundle": tmp_path / "bundle",
        "queries": tmp_path / "queries" / "*.parquet",
        "to": tmp_path / "answers",
    }
