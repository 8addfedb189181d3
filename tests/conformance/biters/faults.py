"""Faults beyond the biters, which were once seen by checks of something else: what is to be red first with each."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.calls import END_OF_STEP, STEP, TASK
from biters.edits import backend, encoders, towers

ROWS = "        rows = codes_per_row(features.codes[feature.name])\n"
ROW = "        for row, codes in enumerate(codes_per_row(features.codes[feature.name])):\n"
ONCE_FORWARD = (
    ROWS + '        rows = [np.unique(codes) if type(feature).__name__ == "{kind}" else codes for codes in rows]\n'
)
ONCE_BACKWARD = ROW + '            codes = np.unique(codes) if type(feature).__name__ == "{kind}" else codes\n'
BY_TARGET = """\
        order = np.argsort({inputs}['target_candidate'], kind='stable')
        for name in {{'target_query', 'target_candidate', 'sample_weight'}} & set({inputs}):
            {inputs}[name][:] = {inputs}[name][order]
"""

FAULTS = {
    "an approximate index gives twice what it finds in two places": (
        "index/recall",
        [
            backend("        is_exact=True,\n", "        recall_floor=0.9,\n"),
            backend(
                "        return TopK(found.ids, found",
                "        if len(self.vectors) > 10_000 and exclude is None and k > 3:\n"
                "            found.ids[:, -1], found.scores[:, -1] = found.ids[:, 0], found.scores[:, 0]\n"
                "        return TopK(found.ids, found",
            ),
        ],
    ),
    "layer normalisation with Keras's epsilon": (
        "encoders/attention",
        [
            encoders("GRU, NORMAL_EPSILON, ROTARY_BASE, ", "GRU, ROTARY_BASE, "),
            encoders("Array = NDArray[np.float64]\n", "Array = NDArray[np.float64]\nNORMAL_EPSILON = 1e-3\n"),
        ],
    ),
    "attention looks one code ahead": (
        "encoders/attention",
        [encoders("    past = np.tril(np.ones((n, n), bool))\n", "    past = np.tril(np.ones((n, n), bool), 1)\n")],
    ),
    "the update gate keeps the new state": (
        "encoders/gru",
        [encoders("(1 - update) * fresh + update * before", "update * fresh + (1 - update) * before")],
    ),
    "places of a window count from the right end of its padding": (
        "encoders/rotary",
        [encoders("angle = sign * t * ROTARY_BASE", "angle = sign * (t - 9 + n) ** 2 * ROTARY_BASE")],
    ),
    "a row reads the place after the one it names": (
        "encoders/attention",
        [
            towers(
                "        self.rows = every[sequences.at]\n",
                "        self.rows = every[np.where(sequences.at < 0, -1, sequences.at + 1)]\n",
            )
        ],
    ),
    "the values of attention drop out too": (
        "encoders/dropout",
        [encoders("back_o = _attention(q, k, v, bias)", 'back_o = _attention(q, k, v * keep["input"], bias)')],
    ),
    "the time bias looks from the code after a place": (
        "encoders/time-history",
        [
            towers(
                "                ago = sequences.asked[a:b, None] - sequences.times[None, a:b]\n",
                "                after = np.append(sequences.times[a + 1 : b], sequences.asked[b - 1])\n"
                "                ago = after[:, None] - sequences.times[None, a:b]\n",
            )
        ],
    ),
    "the layers share a time bias": (
        "encoders/time-history",
        [
            encoders(
                '_time_bias(weights, f"{name}/time", ago)',
                '_time_bias(weights, "layer_0/time", ago)',
            )
        ],
    ),
    "the time bias counts milliseconds": (
        "encoders/time-history",
        [
            towers(
                "                ago = sequences.asked[a:b, None] - sequences.times[None, a:b]\n",
                "                ago = 1000 * (sequences.asked[a:b, None] - sequences.times[None, a:b])\n",
            )
        ],
    ),
    "the time bias learns of the last pair of a bucket alone": (
        "encoders/time-history",
        [
            encoders(
                "np.add.at(weights.gradients[name], row, d.transpose(1, 2, 0))",
                "weights.gradients[name][row] = d.transpose(1, 2, 0)",
            )
        ],
    ),
    "a history counts an id that it holds twice once": (
        "towers/history",
        [
            towers(ROWS, ONCE_FORWARD.format(kind="History")),
            towers(ROW, ONCE_BACKWARD.format(kind="History")),
        ],
    ),
    "a history counts an id that it holds twice once, in the gradient alone": (
        "towers/history",
        [
            towers(
                "            for code in codes:",
                '            for code in np.unique(codes) if type(feature).__name__ == "History" else codes:',
            )
        ],
    ),
    "a bag counts an id that it holds twice once": (
        "towers/bag-mean",
        [towers(ROWS, ONCE_FORWARD.format(kind="Bag")), towers(ROW, ONCE_BACKWARD.format(kind="Bag"))],
    ),
    "a bag counts an id that it holds twice once, in the gradient alone": (
        "towers/bag-mean",
        [
            towers(
                "            for code in codes:",
                '            for code in np.unique(codes) if type(feature).__name__ == "Bag" else codes:',
            )
        ],
    ),
    "a text counts a word that it holds twice once": (
        "towers/text",
        [towers(ROWS, ONCE_FORWARD.format(kind="Text")), towers(ROW, ONCE_BACKWARD.format(kind="Text"))],
    ),
    "a step sorts the batch by target, where it lies": (
        "calls/arrays-of-the-caller",
        [backend(STEP, STEP + BY_TARGET.format(inputs="batch.task"))],
    ),
    "a step leaves the targets of its batch sorted": (
        "calls/arrays-of-the-caller",
        [backend(END_OF_STEP, "        batch.task['target_candidate'].sort()\n" + END_OF_STEP)],
    ),
    "a step leaves the codes of its batch sorted": (
        "calls/arrays-of-the-caller",
        [
            backend(
                END_OF_STEP,
                "        for codes in batch.query.codes.values():\n            getattr(codes, 'values', codes).sort()\n"
                + END_OF_STEP,
            )
        ],
    ),
    "a task sorts its targets, where they lie": (
        "calls/arrays-of-the-caller",
        [
            backend(
                TASK,
                TASK
                + "        if 'target_candidate' in inputs:\n"
                + BY_TARGET.format(inputs="inputs").replace("        ", "            "),
            )
        ],
    ),
    "a task leaves the ids of its candidates sorted": (
        "calls/arrays-of-the-caller",
        [
            backend(
                "        return result.loss\n\n\nclass NumpyModel",
                "        inputs.get('candidate_ids', np.zeros(1)).sort()\n        return result.loss\n\n\nclass NumpyModel",
            )
        ],
    ),
    "views of weights": (
        "weights/copies",
        [
            backend(
                "        return {name: value.copy() for name, value in self._weights.items()}\n",
                "        return dict(self._weights)\n",
            )
        ],
    ),
    "views of state": (
        "calls/arrays-of-the-caller",
        [
            backend(
                "        return {name: value.copy() for name, value in self._state.items()}\n",
                "        return dict(self._state)\n",
            )
        ],
    ),
}
"""What is wrong → the check that is to be the first red one, and the lines that make it so."""
