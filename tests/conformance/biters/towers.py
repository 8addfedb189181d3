"""Biters of checks/towers.py."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import EMBED, backend, towers, training

BITERS = {
    "towers/categorical": (
        "the row after the one of the code, in a history of one id too",
        [
            towers(
                "    return [np.asarray([code]) for code in codes]",
                "    return [np.asarray([code - 1]) for code in codes]",
            )
        ],
    ),
    "towers/oov": (
        "id 0 taken for padding: zeros",
        [
            towers(
                "        pooled = [table[codes].sum(axis=0)",
                "        table = table * (np.arange(len(table)) > 0)[:, None] if features.size == 3 else table\n"
                "        pooled = [table[codes].sum(axis=0)",
            )
        ],
    ),
    "towers/bag-mean": (
        "the sum for the mean",
        [
            towers(
                "return max(1, number) if feature.averages else 1",
                'mean = feature.averages and type(feature).__name__ != "Bag"\n    return max(1, number) if mean else 1',
            )
        ],
    ),
    "towers/bag-sum": (
        "the mean for the sum",
        [
            towers(
                "return max(1, number) if feature.averages else 1",
                'return max(1, number) if feature.kind == "many" else 1',
            )
        ],
    ),
    "towers/empty-bag": (
        "0 / 0 for a batch of bags without codes",
        [
            towers(
                "    x = np.concatenate(columns, axis=1)\n",
                "    x = np.concatenate(columns, axis=1)\n"
                "    if features.size == 2 and not x.any():\n        x = x + np.nan\n",
            )
        ],
    ),
    "towers/vector": (
        "the first four numbers of a vector alone",
        [
            towers(
                "            columns.append(x @ np.asarray(weights[_kernel(side, feature)], np.float64) if feature.mapped else x)\n",
                "            w = np.asarray(weights[_kernel(side, feature)], np.float64) if feature.mapped else None\n"
                "            columns.append(x if w is None else x @ np.where(np.arange(len(w))[:, None] < 4, w, 0))\n",
            )
        ],
    ),
    "towers/text": (
        "words summed, not averaged",
        [
            towers(
                "return max(1, number) if feature.averages else 1",
                'mean = feature.averages and type(feature).__name__ != "Text"\n'
                "    return max(1, number) if mean else 1",
            )
        ],
    ),
    "towers/history": (
        "an empty history is the first row of the table",
        [
            towers(
                "        rows = codes_per_row(features.codes[feature.name])\n",
                "        rows = codes_per_row(features.codes[feature.name])\n"
                '        if type(feature).__name__ == "History":\n'
                "            rows = [r if len(r) else np.zeros(1, np.int32) for r in rows]\n",
            )
        ],
    ),
    "towers/shared-table": (
        "the candidate tower's gradient overwrites the history's",
        [training("            out[name] += value\n", "            out[name] = value\n")],
    ),
    "towers/numeric": (
        "numbers cast to integers",
        [
            towers(
                "            columns.append(x @",
                "            x = x.round()\n            columns.append(x @",
            )
        ],
    ),
    "towers/feature-order": (
        "features sorted by name",
        [
            towers(
                "    columns = []\n    for feature in tower.features:",
                "    columns = []\n    for feature in sorted(tower.features, key=lambda f: f.name if len(tower.features) == 3 else ''):",
            )
        ],
    ),
    "towers/layers": (
        "the bias left out of the forward pass",
        [towers('+ _float64(weights, side, i, "bias")', '+ 0 * _float64(weights, side, i, "bias")')],
    ),
    "towers/relu": (
        "leaky ReLU",
        [towers("        return np.maximum(x, 0)", "        return np.maximum(x, 0.01 * x)")],
    ),
    "towers/tanh": (
        "hard tanh",
        [
            towers(
                "        return np.tanh(x)",
                "        return np.clip(x, -1, 1) if x.shape[1] > 3 else np.tanh(x)",
            )
        ],
    ),
    "towers/sigmoid": ("sigmoid of 2x", [towers("1 / (1 + np.exp(-x))", "1 / (1 + np.exp(-2 * x))")]),
    "towers/final-activation": (
        "the final activation is ReLU whatever it says",
        [
            towers(
                "    return tower.final_activation if layer",
                '    if len(tower.layers) == 3 and layer == 2 and tower.final_activation:\n        return "relu"\n'
                "    return tower.final_activation if layer",
            )
        ],
    ),
    "towers/dropout": (
        "the keep mask is not applied",
        [towers("    return x if features.keep is None else x * features.keep", "    return x")],
    ),
    "towers/batch-of-one": (
        "one row is squeezed to a vector",
        [
            backend(
                "        return towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)",
                "        out = towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)\n"
                "        return out[0] if len(out) == 1 else out",
            )
        ],
    ),
    "towers/no-rows": (
        "nothing to stack",
        [
            backend(
                EMBED,
                "        np.stack([np.zeros(1)] * features.size)\n" + EMBED,
            )
        ],
    ),
    "towers/values": (
        "numbers are held between − 100 and 100",
        [
            towers(
                "            columns.append(x @",
                "            x = np.clip(x, -100, 100)\n            columns.append(x @",
            )
        ],
    ),
    "towers/float64": (
        "numbers by way of float32",
        [
            towers(
                "            columns.append(x @",
                "            x = x.astype(np.float32).astype(np.float64)\n            columns.append(x @",
            )
        ],
    ),
    "towers/keep-is-for-steps": (
        "`embed` applies the mask",
        [
            backend(
                "        whole = features.unmasked\n",
                "        whole = dataclasses.replace(features.unmasked, keep=features.keep)\n",
            )
        ],
    ),
    "towers/all-together": (
        "with five features and more, the gradients of the first two change places",
        [
            towers(
                "    start = 0\n    for feature in tower.features:\n        part",
                "    if len(tower.features) == 5:\n        gradient = np.roll(gradient, 4, axis=1)\n"
                "    start = 0\n    for feature in tower.features:\n        part",
            )
        ],
    ),
}
