"""Training on later rows: histories begin with what earlier fits saw, and `replay` draws from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.batch import Batch
from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import BatchPlan
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.remembered import with_past
from tests.bundle.small import every_feature, fitted, ids_only
from tests.growth import days

SPEC = recs.RetrievalSpec(negatives="in-batch")


@pytest.fixture(scope="module")
def model() -> recs.TwoTower:
    return fitted(every_feature(), days.first()).extend(days.second())


def later(model: recs.TwoTower, replay: float = 0.0, before=None) -> EncodedDataset:
    catalog = model.catalog
    data = EncodedDataset.encode(model.query, model.candidate, catalog.schema, days.second(), before=catalog)
    return with_past(data, catalog, replay)


def epoch(data: EncodedDataset, by: str, replay: float, number: int = 0, size: int = 7) -> Iterator[Batch]:
    plan = BatchPlan(size, by, SPEC, replay=replay)  # type: ignore[arg-type]
    return Batching(data).batches(plan, seed=3, epoch=number)


def pairs(data: EncodedDataset, batches: Iterator[Batch]) -> Counter[tuple[int, str]]:
    """(user, item) of every target of an epoch."""
    found: Counter[tuple[int, str]] = Counter()
    users, items = data.schema.queries.ids.to_pylist(), data.schema.candidates.ids.to_pylist()
    first = data.schema.first_row("table/user")
    for batch in batches:
        user = batch.rows["table/user"][batch.query.codes["user"]] - first
        target = batch.task["candidate_ids"][batch.task["target_candidate"]]
        found.update((users[u], items[c]) for u, c in zip(user[batch.task["target_query"]], target, strict=True))
    return found


def of(data: recs.Interactions) -> Counter[tuple[int, str]]:
    return Counter((user, item) for user, items in days.taken(data).items() for item in items)


def test_a_later_rows_history_begins_with_what_earlier_fits_saw(model: recs.TwoTower) -> None:
    data = later(model)
    everything = days.taken(days.first(), days.second())
    users, items = data.schema.queries.ids.to_pylist(), data.schema.candidates.ids.to_pylist()
    rows, first = [], data.schema.first_row("table/user")
    item_row = data.schema.first_row("table/item")
    for batch in epoch(data, "interaction", 0):
        users_here = batch.rows["table/user"][batch.query.codes["user"]] - first
        target = batch.task["candidate_ids"][batch.task["target_candidate"]]
        past = batch.query.codes["item"]
        for i, (user, code) in enumerate(zip(users_here, target, strict=True)):
            values = past.values[past.offsets[i] : past.offsets[i + 1]]
            history = [items[c] for c in batch.rows["table/item"][values] - item_row]
            rows.append((users[user], items[code], history))
    for user, item, history in rows:  # what it took before that row, the item itself left out
        places = [n for n, taken in enumerate(everything[user]) if taken == item]
        assert history in [[i for i in everything[user][:n] if i != item] for n in places]
    assert Counter((user, item) for user, item, _ in rows) == of(days.second())
    assert sum(len(history) for *_, history in rows) > sum(
        len([i for i in taken[:n] if i != item])
        for taken in days.taken(days.second()).values()
        for n, item in enumerate(taken)
    )


def test_without_what_was_seen_nothing_is_looked_back_at(model: recs.TwoTower) -> None:
    data = later(model)
    again = EncodedDataset.encode(model.query, model.candidate, model.schema, days.second(), before=model.catalog)
    assert with_past(again, None, 0.5) is again
    assert data.old is not None and not np.array_equal(data.old, np.zeros(len(data), bool))
    both = with_past(
        EncodedDataset.encode(model.query, model.candidate, model.schema, days.first(), before=model.catalog),
        fitted(every_feature(), days.first()).catalog,
        0.5,
    )
    assert both.old is None  # all that was seen is in the data


@pytest.mark.parametrize("replay", [0.2, 0.5, 0.99])
def test_every_new_row_is_trained_on_and_old_ones_are_drawn_anew(model: recs.TwoTower, replay: float) -> None:
    data, fresh, old = later(model, replay), of(days.second()), of(days.first())
    drawn = []
    for number in range(3):
        found = pairs(data, epoch(data, "interaction", replay, number))
        assert not fresh - found
        drawn.append(found - fresh)
        assert not drawn[-1] - old
        due = min(len(days.first()), round(replay / (1 - replay) * len(days.second())))
        assert drawn[-1].total() == due
    assert (drawn[0] != drawn[1]) == (due < len(days.first()))
    again = pairs(data, epoch(data, "interaction", replay, 0))
    assert again - fresh == drawn[0]


def test_by_query_whoever_has_a_new_row_is_a_unit_with_all_rows(model: recs.TwoTower) -> None:
    data = later(model, 0.3)
    everything = {user: {*items} for user, items in days.taken(days.first(), days.second()).items()}
    for replay, due in ((0.0, {*days.USERS}), (0.3, None)):
        asked = {user for user, _ in pairs(data, epoch(data, "query", replay, size=100))}
        assert {*days.USERS} <= asked
        assert len(asked) == 6 + round(replay / (1 - replay) * 6) and (due is None or asked == due)
    batch = next(epoch(data, "query", 0.0, size=100))
    users, first = data.schema.queries.ids.to_pylist(), data.schema.first_row("table/user")
    past = batch.query.codes["item"].lengths
    targets = np.bincount(batch.task["target_query"], minlength=len(past))
    for row, count in zip(batch.rows["table/user"][batch.query.codes["user"]] - first, past + targets, strict=True):
        assert count == len(everything[users[row]])


def test_by_sequence_a_window_without_a_new_target_is_old() -> None:
    history = recs.History("item", dim=4, max_length=3, encoder=recs.GRU())
    model = ids_only(
        query=recs.TowerSpec([history]),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=4)]),
        training=recs.TrainingSpec(epochs=1, batch_size=8, batch_by="sequence"),
    )
    fitted(model, days.first())
    model.extend(days.second())
    data = later(model)
    targets = sum(len(batch.task["target_query"]) for batch in epoch(data, "sequence", 0.0))
    everything = days.taken(days.first(), days.second())
    new = {user: len(items) for user, items in days.taken(days.second()).items()}
    due = 0
    for user, items in everything.items():
        behind = len(items) - 1  # targets, from the newest backwards three to a window
        for start in range(0, behind, 3):
            due += min(3, behind - start) if start < new.get(user, 0) else 0
    assert targets == due
    model.fit(days.second(), epochs=1, replay=0.5, progress=False)


def test_logq_counts_what_an_epoch_is_expected_to_draw(model: recs.TwoTower) -> None:
    data, replay = later(model, 0.4), 0.4
    fresh, old = (
        Counter(item for (_, item), n in of(d).items() for _ in range(n)) for d in (days.second(), days.first())
    )
    share = round(replay / (1 - replay) * len(days.second())) / len(days.first())
    counts = np.array([fresh[i] + share * old[i] for i in data.schema.candidates.ids.to_pylist()])
    batch = next(epoch(data, "interaction", replay))
    codes = batch.task["candidate_ids"]
    np.testing.assert_allclose(batch.task["candidate_sampling_probability"], counts[codes] / counts.sum())


def test_a_run_that_replays_is_finished_as_it_was_planned(model: recs.TwoTower) -> None:
    class Stop(Exception):
        pass

    class Breaks:
        def on_step_end(self, record) -> None:
            if (record.epoch, record.step) == (model.position.epoch + 2, 2):
                raise Stop

    whole, broken = (recs.TwoTower.of(model.fitted(), backend=model.backend) for _ in range(2))
    whole.fit(days.second(), epochs=3, replay=0.3, progress=False)
    with pytest.raises(Stop):
        broken.fit(days.second(), epochs=3, replay=0.3, callbacks=[Breaks()], progress=False)
    with pytest.raises(SpecError, match=r"with replay=0\.3, asked for 0\.5"):
        broken.fit(days.second(), replay=0.5, progress=False)
    broken = recs.TwoTower.of(broken.fitted(), backend=model.backend)
    broken.fit(days.second(), progress=False)
    for name, array in whole.weights().items():
        np.testing.assert_array_equal(broken.weights()[name], array)


def test_rows_whose_context_is_not_kept_cannot_be_replayed() -> None:
    rows = {"user": ["a", "b"], "item": ["x", "y"], "device": ["i", "w"]}
    data = recs.Interactions.from_table(rows, query="user", candidate="item")
    model = ids_only(query=recs.TowerSpec([recs.Categorical("device", dim=2)]))
    fitted(model, data)
    version = model.version
    with pytest.raises(SpecError, match="replay=0.2: the query tower reads 'device' of each row"):
        model.fit(data, epochs=1, replay=0.2, progress=False)
    assert model.version == version
    for replay in (-0.1, 1, "a"):
        with pytest.raises(SpecError, match="needs 0 ≤ replay < 1"):
            model.fit(data, epochs=1, replay=replay, progress=False)
