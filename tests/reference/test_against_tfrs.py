"""The oracle's task against `tfrs.tasks.Retrieval`, in a process of its own, for the options that TFRS gets right."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from recs_core.contract.retrieval import RetrievalSpec
from recs_core.reference.task import loss_and_gradients

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_recommenders") is None, reason="tensorflow-recommenders is not installed"
)

QUERIES, COLUMNS = 5, 8  # three extra rows of candidates
CASES = {
    "plain": {},
    "temperature": {"temperature": 0.2},
    "logq": {"q": True},
    "accidental_hits": {"ids": True},
    "score_mask": {"mask": True},
    "hard_negatives": {"hard": 2},
    "sample_weight": {"weight": True},
    "everything": {"temperature": 0.3, "q": True, "ids": True, "mask": True, "hard": 3, "weight": True},
}

PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
data, cases = json.load(sys.stdin)
array = lambda name, dtype=np.float32: np.array(data[name], dtype)
out = {}
for name, case in cases.items():
    task = tfrs.tasks.Retrieval(
        temperature=case.get("temperature"), num_hard_negatives=case.get("hard"), remove_accidental_hits="ids" in case
    )
    query, candidate = tf.constant(array("query")), tf.constant(array("candidate"))
    with tf.GradientTape() as tape:
        tape.watch([query, candidate])
        loss = task(
            query, candidate,
            sample_weight=array("weight") if "weight" in case else None,
            candidate_sampling_probability=array("q") if "q" in case else None,
            candidate_ids=array("ids", np.int64) if "ids" in case else None,
            score_mask=array("mask", bool) if "mask" in case else None,
        )
    gradients = tape.gradient(loss, [query, candidate])
    out[name] = {"loss": float(loss), "gradients": [g.numpy().tolist() for g in gradients]}
print(json.dumps(out))
"""


def data():
    random = np.random.default_rng(7)
    mask = random.random((QUERIES, COLUMNS)) < 0.7
    mask[np.arange(QUERIES), np.arange(QUERIES)] = True  # TFRS would mask the positive itself
    return {
        "query": random.normal(size=(QUERIES, 4)).astype(np.float32),
        "candidate": random.normal(size=(COLUMNS, 4)).astype(np.float32),
        "weight": random.random(QUERIES).astype(np.float32),
        "q": (random.random(COLUMNS) * 0.5 + 1e-5).astype(np.float32),  # ≥ 1e-6, where TFRS floors it
        "ids": np.array([4, 9, 4, 7, 1, 9, 2, 1]),
        "mask": mask,
    }


@pytest.fixture(scope="module")
def tfrs():
    text = json.dumps([{name: value.tolist() for name, value in data().items()}, CASES])
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=text, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_oracle_agrees_with_tfrs(tfrs, name):
    case, values = CASES[name], data()
    spec = RetrievalSpec(
        scoring="dot",
        temperature=case.get("temperature", 1.0),
        candidate_bias=False,
        logq="q" in case,
        remove_accidental_hits="ids" in case,
        hard_negatives=case.get("hard"),
        reduction="sum",
    )
    result = loss_and_gradients(
        spec,
        values["query"],
        values["candidate"],
        sample_weight=values["weight"] if "weight" in case else None,
        candidate_sampling_probability=values["q"] if "q" in case else None,
        candidate_ids=values["ids"] if "ids" in case else None,
        score_mask=values["mask"] if "mask" in case else None,
    )
    assert tfrs[name]["loss"] == pytest.approx(result.loss, rel=2e-6)
    for got, expected in zip(tfrs[name]["gradients"], (result.query, result.candidate), strict=True):
        np.testing.assert_allclose(got, expected, atol=5e-6)
