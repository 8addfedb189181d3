"""Where a batch is answered: on the loop while batches are quick, else on a thread that leaves the loop free."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence

import pytest

from recs_core.service import batching
from recs_core.service.batching import Batcher


def where_it_runs(requests: Sequence[object]) -> list[bool]:
    return [threading.current_thread() is threading.main_thread()] * len(requests)


async def asked_three_times() -> list[bool]:
    batcher = Batcher(where_it_runs, room=4, deadline=60.0)
    try:
        return [await batcher.put("?").future for _ in range(3)]
    finally:
        batcher.close()


@pytest.mark.parametrize(
    ("quick", "on_the_loop"), [(math.inf, [False, True, True]), (0.0, [False, False, False])], ids=["quick", "slow"]
)
def test_the_next_batch_goes_where_the_last_ones_time_says(
    quick: float, on_the_loop: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "QUICK", quick)
    assert asyncio.run(asked_three_times()) == on_the_loop


async def the_time(seconds: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Batches that take so long by the clock."""
    ticks = iter([tick for second in seconds for tick in (0.0, second)])
    monkeypatch.setattr(batching.time, "perf_counter", lambda: next(ticks))
    batcher = Batcher(where_it_runs, room=4, deadline=60.0)
    try:
        return [await batcher.put("?").future for _ in seconds]
    finally:
        batcher.close()


def test_a_slow_batch_sends_the_one_after_it_to_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    took = [0.001, 0.050, 0.001, 0.001]
    assert asyncio.run(the_time(took, monkeypatch)) == [False, True, False, True]


def test_an_error_on_the_loop_is_the_batchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "QUICK", math.inf)

    def work(requests: Sequence[object]) -> Sequence[object]:
        if requests == ["bad"]:
            raise ValueError("no")
        return requests

    async def asked() -> list[object]:
        batcher = Batcher(work, room=4, deadline=60.0)
        try:
            first = await batcher.put("good").future
            with pytest.raises(ValueError, match="no"):
                await batcher.put("bad").future
            return [first, await batcher.put("good").future]
        finally:
            batcher.close()

    assert asyncio.run(asked()) == ["good", "good"]
