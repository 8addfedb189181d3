"""Small worlds that several tests use."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from recs_core_torch import Backend, Model
from torch_worlds import CANDIDATE, CORPUS, QUERY, ROWS, codes, ragged

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features
from recs_core.contract.retrieval import RetrievalSpec

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def model() -> Model:
    """A model with every kind of feature, a shared table, a bias and a learned temperature."""
    retrieval = RetrievalSpec(logq=False, learn_temperature=True, temperature=0.5)
    weights = canonical.initial(QUERY, CANDIDATE, retrieval, ROWS, CORPUS, seed=1)
    return Backend().model(QUERY, CANDIDATE, retrieval, weights)


@pytest.fixture
def query_features() -> Features:
    """Three rows for the query tower, in rows of whole tables; the second bag and all but one history are empty."""
    return Features(
        3,
        {"user.id": codes(0, 5, 2), "tags": ragged([1, 4], [], [3]), "item": ragged([], [8, 1, 1], [])},
        {"age": np.array([[1.0], [-0.5], [2.0]], np.float32)},
    )


@pytest.fixture
def batch() -> Batch:
    """Three interactions, two of the same item."""
    return Batch(
        rows={
            "table/user.id": codes(0, 2, 5),
            "table/tags": codes(1, 3, 4),
            "table/item": codes(1, 4, 8),
            "table/title": codes(0, 3, 6),
            "task/bias": codes(3, 7),
        },
        query=Features(
            3,
            {"user.id": codes(0, 2, 1), "tags": ragged([0, 2], [], [1]), "item": ragged([], [2, 0, 0], [])},
            {"age": np.array([[1.0], [-0.5], [2.0]], np.float32)},
        ),
        candidate=Features(3, {"item": codes(1, 2, 1), "title": ragged([0, 1], [2], [0, 1])}),
        task={"candidate_ids": codes(3, 7, 3)},
        bias_codes=codes(0, 1, 0),
    )
