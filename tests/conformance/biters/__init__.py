"""For every check, a wrong implementation that it must catch: what is wrong with it, and the lines that make it so."""

from breaking import Edit

from biters import index, journey, manifest, task, towers, training, weights

ALSO: dict[str, set[str]] = {}
"""What a biter fails beside its own check, where the mistake cannot be seen apart."""

BITERS: dict[str, tuple[str, list[Edit]]] = {
    **manifest.BITERS,
    **towers.BITERS,
    **task.BITERS,
    **training.BITERS,
    **weights.BITERS,
    **journey.BITERS,
    **index.BITERS,
}
