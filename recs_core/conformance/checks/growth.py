"""Growth: a model of the same plan whose tables have more rows, in the same process."""

from __future__ import annotations

from recs_core.conformance import expect
from recs_core.conformance.checks.journey import ANSWER, SHOP
from recs_core.conformance.context import BackendContext
from recs_core.conformance.registry import check
from recs_core.conformance.shop import CUSTOMERS, ITEMS, later, trained
from recs_core.reference.backend import OracleBackend
from recs_core.two_tower import TwoTower


@check(
    "growth/extend",
    needs=(*SHOP, "state", "float64"),
    rests_on=("saving/load-here",),
    formula="a new row is the mean of the table's, a new bias 0, a new row's slots those of one never moved",
)
def extend(context: BackendContext) -> None:
    """A model that new customers and items join keeps every old vector bit for bit, and answers and trains on as the
    oracle's does.

    Its tables have more rows than those of a model of the same plan just before. Look for what is kept by plan and not
    by model: a compiled program, a size, a buffer.
    """
    value = trained(OracleBackend(), "float64").fitted()
    here, there = (TwoTower.of(value, backend=backend) for backend in (context.backend, OracleBackend()))
    known = value.catalog.candidate
    before = here.candidate_tower.embed(known)
    for model in (here, there):
        model.extend(later())
    expect.same("the vectors of old items", here.candidate_tower.embed(known), before)
    for name, array in there.weights().items():
        expect.same(f"{name}, extended", here.weights()[name], array)
    mine, due = here.fitted().progress, there.fitted().progress
    assert mine is not None and due is not None
    assert mine.state is not None and due.state is not None
    for name, array in due.state.items():
        expect.same(f"the state {name}, extended", mine.state[name], array)
    expect.close("the vectors of all items", here.encode_candidate(), there.encode_candidate(), ANSWER)
    asked = [*CUSTOMERS, "new 0"]
    expect.close("the vectors of customers", here.encode_query(asked), there.encode_query(asked), ANSWER)
    expect.true(len(here.encode_candidate()) > len(ITEMS), "the items", "more than before", len(ITEMS))
    for model in (here, there):
        model.fit(later(), epochs=1, batch_size=len(later()), replay=0.5, progress=False)
    expect.close("the losses", here.history.losses, there.history.losses, expect.LOSS["float64"])
    expect.all_close("the weights after one more epoch", here.weights(), there.weights(), expect.WEIGHT["float64"])
