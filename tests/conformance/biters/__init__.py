"""For every check, a wrong implementation that it must catch: what is wrong with it, and the lines that make it so."""

from breaking import Edit

from biters import (
    calls,
    distributed,
    encoders,
    faults,
    growth,
    index,
    journey,
    manifest,
    sizes,
    task,
    task_values,
    towers,
    training,
    weights,
)

BITERS: dict[str, tuple[str, list[Edit]]] = {
    **manifest.BITERS,
    **towers.BITERS,
    **encoders.BITERS,
    **task.BITERS,
    **task_values.BITERS,
    **sizes.BITERS,
    **training.BITERS,
    **distributed.BITERS,
    **weights.BITERS,
    **calls.BITERS,
    **journey.BITERS,
    **growth.BITERS,
    **index.BITERS,
}

FAULTS: list[tuple[str, str, list[Edit]]] = [
    *((name, what, edits) for name, (what, edits) in BITERS.items()),
    *((name, what, edits) for what, (name, edits) in faults.FAULTS.items()),
]
"""All that is wrong with a backend or an index here: the check whose subject it is, what, and the lines."""
