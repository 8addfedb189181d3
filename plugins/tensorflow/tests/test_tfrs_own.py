"""TFRS's own test files, where the installed TFRS has them, run against the names that stand in for its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from recs_core_tensorflow.environment import tfrs

RUN = """
import sys, unittest
from functools import partial
from recs_core.contract.retrieval import RetrievalSpec
from recs_core_tensorflow import BruteForce, Streaming, TFRSRetrieval, tf, tfrs
from tensorflow_recommenders.layers import factorized_top_k
from tensorflow_recommenders.tasks import retrieval

spec = RetrievalSpec(
    scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False, reduction="sum"
)
factorized_top_k.BruteForce, factorized_top_k.Streaming = BruteForce, Streaming
retrieval.Retrieval = partial(TFRSRetrieval, spec)
found = unittest.defaultTestLoader.loadTestsFromName(sys.argv[1])
skipped = ("scann", "Scann", "ScaNN", "test_session")  # not ours, and not a test

def ours(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from ours(test)
        elif not any(word in str(test) for word in skipped):
            yield test

chosen = list(ours(found))[:: int(sys.argv[2])]
assert chosen, "no tests were found"
done = unittest.TextTestRunner(stream=sys.stdout).run(unittest.TestSuite(chosen))
sys.exit(not done.wasSuccessful())
"""


@pytest.mark.parametrize("every", [pytest.param(5, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name",
    ["tasks.retrieval_test", "metrics.factorized_top_k_test", "layers.factorized_top_k_test"],
)
def test_it_passes(name: str, every: int) -> None:
    """All of its tests are minutes of products of their parameters, so most runs take every fifth."""
    module = f"tensorflow_recommenders.{name}"
    if not Path(tfrs.__file__).parent.joinpath(*name.split(".")).with_suffix(".py").exists():
        pytest.skip(f"{module} is not in the TensorFlow Recommenders installed here")
    done = subprocess.run([sys.executable, "-c", RUN, module, str(every)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
