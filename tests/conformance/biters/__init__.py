"""For every check, a wrong implementation that it must catch: what is wrong with it, and the lines that make it so."""

from breaking import Edit

from biters import calls, index, journey, manifest, sizes, task, task_values, towers, training, weights

ALSO: dict[str, set[str]] = {}
"""What a biter fails beside its own check, where the mistake cannot be seen apart."""

BITERS: dict[str, tuple[str, list[Edit]]] = {
    **manifest.BITERS,
    **towers.BITERS,
    **task.BITERS,
    **task_values.BITERS,
    **sizes.BITERS,
    **training.BITERS,
    **weights.BITERS,
    **calls.BITERS,
    **journey.BITERS,
    **index.BITERS,
}
