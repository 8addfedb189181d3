"""What batches of a store cost where memory cannot cache it, with rows shuffled all together and in pools.

    systemd-run --scope -p MemoryMax=460M python benchmarks/pools.py STORE [--pool-rows 1000000]

Prints ms and megabytes read from disk per batch of 4,096 rows, without histories. What memory there is for the cache is
decided outside: by a control group, as above, or by the size of the machine. Linux.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from itertools import islice
from pathlib import Path

import recs_core as recs
from recs_core.contract.protocols import BatchPlan
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema

STEPS = 100


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("store", type=Path)
    asked.add_argument("--pool-rows", type=int)
    options = asked.parse_args()
    data = recs.open_store(options.store, verify=False)
    query = recs.TowerSpec([recs.Categorical(data.query_name, dim=8)])
    candidate = recs.TowerSpec([recs.Categorical(data.candidate_name, dim=8)])
    batching = Batching(EncodedDataset.encode(query, candidate, Schema.learn(query, candidate, data), data))
    plan = BatchPlan(4096, "interaction", recs.RetrievalSpec(), recency_days=30.0, pool_rows=options.pool_rows)
    before, start = read(), time.perf_counter()
    made = sum(1 for _ in islice(batching.batches(plan, seed=0, epoch=0), STEPS))
    took = time.perf_counter() - start
    sys.stdout.write(f"{1000 * took / made:.1f} ms and {(read() - before) / made / 1e6:.1f} MB read per batch\n")


def read() -> int:
    """Bytes that this process had the disk read."""
    return int(re.search(r"read_bytes: (\d+)", Path("/proc/self/io").read_text())[1])  # type: ignore[index]


if __name__ == "__main__":
    main()
