"""The checks themselves; importing this package registers them, in the order in which they are run."""

from recs_core.conformance.checks import manifest, towers, task, training, weights, adopted, journey, index  # noqa: F401, I001  (in order)
