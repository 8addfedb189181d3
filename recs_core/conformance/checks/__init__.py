"""The checks themselves; importing this package registers them, in the order in which they are run."""

from recs_core.conformance.checks import manifest, towers  # noqa: F401, I001  (in order)
from recs_core.conformance.checks import task, task_targets, task_edges, task_values  # noqa: F401
from recs_core.conformance.checks import training, training_rows, training_trajectories  # noqa: F401
from recs_core.conformance.checks import encoders  # noqa: F401
from recs_core.conformance.checks import weights, training_settings, calls, adopted  # noqa: F401
from recs_core.conformance.checks import sizes, journey, growth, training_options, distributed, index  # noqa: F401
from recs_core.conformance.checks import index_sizes, index_scores, index_recall, index_calls  # noqa: F401
from recs_core.conformance.checks import index_changes  # noqa: F401
