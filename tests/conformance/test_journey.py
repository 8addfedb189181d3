"""The oracle as a backend, and what a recommender does with what a backend hands it."""

import numpy as np

from recs_core.conformance.shop import CUSTOMERS, shop, trained
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.protocols import Backend, Model, Tower, Trainer, lacking
from recs_core.reference.backend import OracleBackend
from recs_core.reference.backend import Tower as OracleTower


def test_the_oracle_is_a_backend():
    model = trained(OracleBackend(), "float32")
    for part, protocol in (
        (model.backend, Backend),
        (model.model, Model),
        (model.query_tower, Tower),
        (model.backend.trainer(model.model, UpdatePlan(model.optimizer)), Trainer),
    ):
        assert not lacking(part, protocol)
    assert model.evaluate(shop().test)["recall@20"] > 0


def test_an_unknown_query_is_answered_from_vectors_that_are_read_only(monkeypatch):
    model = trained(OracleBackend(), "float32")
    asked = [*CUSTOMERS, "nobody"]
    expected = model.recommend_codes(asked, k=5, unknown="quiet")
    embed = OracleTower.embed

    def read_only(self, features):
        out = embed(self, features)
        out.flags.writeable = False
        return out

    monkeypatch.setattr(OracleTower, "embed", read_only)
    np.testing.assert_array_equal(model.recommend_codes(asked, k=5, unknown="quiet").ids, expected.ids)
