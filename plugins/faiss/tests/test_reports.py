"""What is reported of faiss, each as an index that does so: the suite sees every one of them, at the right check."""

import faiss
import numpy as np
import pytest

from recs_core.conformance.runner import session
from recs_core.contract.manifest import INDEX_CAPABILITIES, IndexInfo, No
from recs_core.contract.protocols import TopK
from recs_core.index import Candidates, plan_search

CAPABILITIES = dict.fromkeys(INDEX_CAPABILITIES, No("it trusts faiss")) | {"exclude": True, "allow": True}


class Trusting:
    """Filters by faiss's own selector, a search for each query."""

    info = IndexInfo("trusting", "here:Trusting", "for tests", is_exact=True, capabilities=CAPABILITIES)
    candidates = None

    def build(self, vectors):
        self.candidates = Candidates.of(vectors)
        self.engine = self.made(np.ascontiguousarray(vectors))

    def made(self, vectors):
        engine = faiss.IndexFlatIP(vectors.shape[1])
        engine.add(vectors)
        return engine

    def kept(self, keep):
        return keep

    def parameters(self, selector):
        return faiss.SearchParameters(sel=selector)

    def search(self, queries, k, *, exclude=None, allow=None):
        plan = plan_search(self.candidates, queries, k, exclude, allow)
        ids = np.full((len(queries), plan.k), -1, np.int64)
        scores = np.full((len(queries), plan.k), -np.inf, np.float32)
        for row in range(len(queries) if plan.k else 0):
            keep = np.ones(len(plan.candidates.vectors), bool)
            if plan.allowed is not None:
                keep[:] = np.isin(np.arange(len(keep)), plan.allowed)
            if plan.exclude is not None:
                gone = plan.exclude.values[slice(*plan.exclude.offsets[row : row + 2])]
                keep[gone[gone >= 0]] = False
            how = self.parameters(faiss.IDSelectorArray(np.flatnonzero(self.kept(keep))))
            some = queries[row : row + 1]
            found, best = self.engine.search(np.ascontiguousarray(some), plan.k, params=how)[::-1]
            order = np.lexsort((found[0], -best[0]))
            ids[row], scores[row] = found[0][order], best[0][order]
        scores[ids < 0] = -np.inf
        return TopK(ids, scores)


class SelectorDropped(Trusting):
    """#5584: shards of an IVF drop the selector."""

    def parameters(self, selector):
        return None


class LocalIds(Trusting):
    """#5581: shards apply the selector to ids of their own, counted from 0 in each."""

    def kept(self, keep):
        half = len(keep) // 2
        return np.concatenate([keep[:half], keep[: len(keep) - half]])


class IgnoredByHNSW(Trusting):
    """#5504: HNSW ignores the selector where its queue is not bounded."""

    def made(self, vectors):
        engine = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        engine.add(vectors)
        return engine

    def parameters(self, selector):
        return faiss.SearchParametersHNSW(efSearch=400, bounded_queue=False)


@pytest.mark.parametrize("fault", [SelectorDropped, LocalIds, IgnoredByHNSW])
def test_the_suite_sees_a_filter_that_faiss_loses(fault):
    judged = session(index=fault)
    assert judged.outcome("index/top-k").status == "passed"
    assert judged.outcome("index/allow").status == "failed"
    checks = ("index/exclude", "index/exclude-ties", "index/exclude-everything")
    assert "failed" in {judged.outcome(name).status for name in checks}
